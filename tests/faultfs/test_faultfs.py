# SPDX-License-Identifier: MIT
"""faultfs does what it is told, with O_DIRECT and through the page cache: test_faultfs.py FAULTFS"""
import errno
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from faultfs import SKIPPED, FaultFs, missing

BINARY = os.path.abspath(sys.argv[1])
SIZE = 5 * 1000 * 1000 + 7
PIECE = 1 << 20


class Faults(unittest.TestCase):
    def setUp(self):
        self.source = tempfile.TemporaryDirectory(prefix="faultfs-source-")
        self.addCleanup(self.source.cleanup)
        self.data = random.Random(1).randbytes(SIZE)
        os.mkdir(os.path.join(self.source.name, "sub"))
        for name in ("a", "sub/b"):
            with open(os.path.join(self.source.name, name), "wb") as f:
                f.write(self.data)
        self.mount()

    def mount(self, *options):
        self.fs = FaultFs(BINARY, self.source.name, *options)
        self.addCleanup(self.fs.stop)
        self.fs.start()

    def read(self, off=0, size=PIECE, name="a", flags=os.O_DIRECT):
        fd = os.open(os.path.join(self.fs.path, name), os.O_RDONLY | flags)
        try:
            with mmap.mmap(-1, size) as buf:  # aligned, as O_DIRECT wants it
                return buf[:os.preadv(fd, [buf], off)]
        finally:
            os.close(fd)

    def fails(self, code, **kw):
        with self.assertRaises(OSError) as caught:
            self.read(**kw)
        self.assertEqual(caught.exception.errno, code)

    def test_mirror(self):
        self.assertEqual(sorted(os.listdir(self.fs.path)), ["a", "sub"])
        self.assertEqual(os.listdir(os.path.join(self.fs.path, "sub")), ["b"])
        for name in ("a", "sub/b"):
            self.assertEqual(os.stat(os.path.join(self.fs.path, name)).st_size, SIZE)
            with open(os.path.join(self.fs.path, name), "rb") as f:
                self.assertEqual(f.read(), self.data)
            for off in range(0, SIZE, PIECE):
                self.assertEqual(self.read(off, name=name), self.data[off:off + PIECE])
        with self.assertRaises(FileNotFoundError):
            self.read(name="c")
        with self.assertRaises(OSError):
            open(os.path.join(self.fs.path, "a"), "r+b").close()

    def test_eio(self):
        self.fs.command("eio", "a", start=PIECE, to=PIECE + 1, times=2)
        self.assertEqual(self.read(), self.data[:PIECE])
        for _ in range(2):
            self.fails(errno.EIO, off=PIECE)
        self.assertEqual(self.read(PIECE), self.data[PIECE:2 * PIECE])
        self.assertEqual(self.fs.hits(), [2])
        self.fs.command("eio", "*b")
        for _ in range(3):
            self.fails(errno.EIO, name="sub/b")
        self.fs.clear()
        self.assertEqual(self.read(name="sub/b"), self.data[:PIECE])
        self.assertEqual(self.fs.hits(), [])

    def test_page_cache(self):
        self.fs.command("eio", "a", start=0, to=1)
        self.fails(errno.EIO, flags=0)
        self.fs.clear()
        self.fs.command("flip", "a", start=5, to=6)
        self.assertEqual(self.read(flags=0, size=4096)[5], self.data[5] ^ 1)

    def test_short(self):
        self.fs.command("short", "a", start=0, to=PIECE, times=1)
        self.assertEqual(self.read(), self.data[:PIECE // 2])
        self.assertEqual(self.read(), self.data[:PIECE])

    def test_flip(self):
        self.fs.command("flip", "a", start=4090, to=4100)
        right = bytearray(self.data[:8192])
        for i in range(4090, 4100):
            right[i] ^= 1
        self.assertEqual(self.read(0, 8192), right)
        self.assertEqual(self.read(0, 4096), right[:4096])
        self.assertEqual(self.read(4096, 4096), right[4096:])

    def test_truncate(self):
        self.fs.command("truncate", "a", size=PIECE + 512)
        self.assertEqual(os.stat(os.path.join(self.fs.path, "a")).st_size, PIECE + 512)
        self.assertEqual(self.read(PIECE), self.data[PIECE:PIECE + 512])
        self.assertEqual(self.read(2 * PIECE), b"")
        self.fs.clear("truncate")
        self.assertEqual(self.read(2 * PIECE), self.data[2 * PIECE:3 * PIECE])

    def test_delay(self):
        self.fs.command("delay", "a", ms=300, times=1)
        before = time.monotonic()
        self.assertEqual(self.read(), self.data[:PIECE])
        self.assertGreaterEqual(time.monotonic() - before, 0.3)

    def test_hang(self):
        self.fs.command("hang", "a", start=0, to=PIECE)
        got = []
        threads = [threading.Thread(target=lambda: got.append(self.read())) for _ in range(20)]
        for t in threads:
            t.start()
        while self.fs.hits() != [20]:
            time.sleep(0.01)
        self.assertEqual(self.read(PIECE), self.data[PIECE:2 * PIECE])  # others go on
        self.fs.clear("eio")
        self.assertEqual((got, self.fs.hits()), ([], [20]))
        self.fs.clear("hang")
        for t in threads:
            t.join()
        self.assertEqual(got, [self.data[:PIECE]] * 20)

    def test_ends_while_hung(self):
        for kill in (False, True):
            with self.subTest(kill=kill):
                self.fs.stop()
                self.mount()
                self.fs.command("hang", "a")
                caught = []

                def hung():
                    try:
                        self.read()
                    except OSError as e:
                        caught.append(e.errno)
                t = threading.Thread(target=hung)
                t.start()
                while self.fs.hits() != [1]:
                    time.sleep(0.01)
                if kill:
                    self.fs.process.kill()
                self.fs.stop()
                t.join()
                self.assertEqual(len(caught), 1)
                self.assertFalse(self.fs.is_mounted())
                self.assertNotIn(os.path.basename(self.fs.path),
                                 os.listdir(os.path.dirname(self.fs.path)))

    def test_killed_while_hung(self):
        self.fs.command("hang", "a")
        reader = subprocess.Popen(["cat", os.path.join(self.fs.path, "a")])
        while not self.fs.hits()[0]:
            time.sleep(0.01)
        reader.kill()
        self.assertEqual(reader.wait(), -signal.SIGKILL)

    def test_refuses_direct(self):
        self.fs.stop()
        self.mount("--refuse-direct")
        self.fails(errno.EINVAL)
        self.assertEqual(self.read(flags=0), self.data[:PIECE])

    def test_bad_commands(self):
        for kind, pattern in (("eoi", "a"), ("eio", None), ("eio", "a x=1"), ("eio", "a from=-1"),
                              ("eio", "a from"), ("eio", "a from=1x"), ("clear", "x"),
                              ("eio", "x" * 600)):
            with self.subTest(kind=kind, pattern=pattern), self.assertRaises(OSError) as caught:
                self.fs.command(kind, pattern)
            self.assertEqual(caught.exception.errno, errno.EINVAL)
        self.assertEqual(self.fs.hits(), [])

    def test_usage(self):
        self.assertEqual(subprocess.run([BINARY], stderr=subprocess.DEVNULL).returncode, 2)
        self.assertEqual(subprocess.run([BINARY, "/nowhere", "/tmp"],
                                        stderr=subprocess.DEVNULL).returncode, 1)


if __name__ == "__main__":
    reason = missing()
    if reason:
        print(reason)
        sys.exit(SKIPPED)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
