#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""test_store.py EXPERTCTL GOLDEN_DIR: expertctl pack and hash as a user sees them: streams, exit
statuses, JSON, the bar on a pseudo-terminal, Ctrl-C, what damage looks like."""
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading


class Test:
    def __init__(self, program, models, folder):
        self.program, self.models, self.folder = program, models, folder
        self.env = {**os.environ, "TERM": "xterm", "STATE_DIRECTORY": self.path("state")}

    def path(self, name):
        return os.path.join(self.folder, name)

    def model(self, name):
        return os.path.join(self.models, name)

    def run(self, status, *args):
        done = subprocess.run([self.program, *args], text=True, capture_output=True, env=self.env)
        assert done.returncode == status, f"{args}: {done.returncode} {done.stdout!r} {done.stderr!r}"
        return done

    def pending_interrupt(self, *args):
        """Runs with a Ctrl-C that is pending from the start."""
        def pend():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            signal.raise_signal(signal.SIGINT)

        return subprocess.run([self.program, *args], text=True, capture_output=True, env=self.env,
                              preexec_fn=pend)

    @staticmethod
    def flip(path, offset):
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))

    def pack(self):
        src, dst = self.model("v3-fp8"), self.path("dst")
        done = self.run(0, "pack", src, dst)
        assert done.stdout.startswith(f"{dst}: 639.0 KB in "), done.stdout
        assert sorted(os.listdir(dst)) == ["checksums", "experts.0", "manifest.json"]
        assert "--force replaces it" in self.run(1, "pack", src, dst).stderr
        done = self.run(0, "--quiet", "pack", "--force", src, dst)
        assert done.stdout == "" and done.stderr == ""
        answer = json.loads(self.run(0, "--json", "pack", "--verify", src, dst).stdout)
        assert answer["damaged"] == 0 and answer["bytes"] == 12 * 53248, answer
        done = self.run(1, "pack", "--verify", self.model("v31-ue8m0"), dst)
        assert "another checkpoint" in done.stderr
        self.flip(os.path.join(dst, "experts.0"), 53248 * 7 + 100)
        done = self.run(1, "pack", "--verify", dst)
        assert "layer 2 expert 1: its checksum differs: record 7" in done.stderr, done.stderr
        assert "1 record damaged" in done.stdout
        shutil.rmtree(dst)

    def drives(self):
        drives = [self.path("a"), self.path("b")]
        os.mkdir(drives[0])
        args = ["pack", "--drives", ",".join(drives), self.model("v3-fp8"), self.path("dst")]
        done = self.run(1, *args)  # no drive is made: the name may be wrong
        assert drives[1] + ": No such file" in done.stderr, done.stderr
        os.symlink(drives[0], drives[1])
        done = self.run(1, *args)
        assert "are one directory" in done.stderr and drives[1] in done.stderr, done.stderr
        os.unlink(drives[1])
        os.mkdir(drives[1])
        self.run(0, "pack", "--drives", ",".join(drives), self.model("v3-fp8"), self.path("dst"))
        sizes = [os.path.getsize(self.path(f"dst/experts.{i}")) for i in range(2)]
        for i, drive in enumerate(drives):
            assert re.fullmatch(fr"experts\.{i}\.[0-9a-f]{{16}}", " ".join(os.listdir(drive)))
        assert sum(sizes) == 12 * 53248 and sizes[0] - sizes[1] == 12 * 4096, sizes
        self.run(0, "pack", "--verify", self.path("dst"))
        self.run(0, "pack", "--force", self.model("v3-fp8"), self.path("dst"))
        assert not os.listdir(drives[0]) and not os.listdir(drives[1])
        for folder in drives + [self.path("dst")]:
            shutil.rmtree(folder)

    def usage(self):
        for args in (["pack", "a"], ["pack"], ["hash"], ["pack", "a", "b", "c"],
                     ["hash", "--drives", "a", "b"], ["pack", "--output", "a", "b", "c"],
                     ["pack", "--verify", "--drives", "a", "b"], ["pack", "--verify", "--force", "b"],
                     ["net", "--force"], ["net", "unbind", "--force", "0000:03:00.0"]):
            self.run(2, *args)
        for drives in ("", "a,,b", ",", "a,b,c,d,e,f,g,h,i"):
            done = self.run(2, "pack", "--drives", drives, self.model("v3-fp8"), self.path("dst"))
            assert "1 to 8 directories" in done.stderr, done.stderr
        done = self.run(1, "pack", self.model("distill-llama"), self.path("dst"))
        assert "no routed experts" in done.stderr and not os.path.exists(self.path("dst.partial"))
        self.run(1, "pack", self.path("none"), self.path("dst"))
        assert not os.path.exists(self.path("dst.partial"))
        self.run(1, "hash", self.path("none"))

    def hash(self):
        src = self.path("model")
        shutil.copytree(self.model("v3-fp8"), src)
        self.run(1, "hash", "--verify", src)  # no list yet
        done = self.run(0, "hash", src)
        lists = os.listdir(self.path("state"))
        assert len(lists) == 1 and lists[0].endswith(".hashes") and lists[0] in done.stdout
        assert "12 of 12 experts" in done.stdout
        assert ", 0 differ" in self.run(0, "hash", "--verify", src).stdout
        done = self.run(1, "hash", "--output", self.path("none/list"), src)
        assert "--output" in done.stderr and not os.path.exists(self.path("none")), done.stderr
        self.run(0, "hash", "--output", self.path("list"), src)
        with open(self.path("list"), "rb") as a, open(self.path("state/" + lists[0]), "rb") as b:
            assert a.read() == b.read()
        name = "model.layers.2.mlp.experts.3.up_proj.weight"
        with open(os.path.join(src, "model.safetensors.index.json"), encoding="utf-8") as file:
            shard = json.load(file)["weight_map"][name]
        path = os.path.join(src, shard)
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            offset = 8 + size + json.loads(file.read(size))[name]["data_offsets"][0]
        self.flip(path, offset + 3)
        done = self.run(1, "hash", "--verify", "--output", self.path("list"), src)
        assert "layer 2 expert 3 is not what the list says" in done.stderr, done.stderr
        assert shard in done.stderr and "1 expert is not" in done.stderr
        answer = json.loads(self.run(1, "--json", "hash", "--verify", src).stdout)
        assert answer["damaged"] == 1 and answer["experts"] == 12
        self.run(0, "hash", src)  # a new list of what is there now
        self.run(0, "hash", "--verify", src)
        self.flip(self.path("state/" + lists[0]), 70)
        assert "is damaged" in self.run(1, "hash", "--verify", src).stderr

    def hash_goes_on(self):
        """Ctrl-C keeps what is done; a place that cannot be written is told before anything is read."""
        src, path = self.model("v3-fp8"), self.path("resumed")
        done = self.pending_interrupt("hash", "--output", path, src)
        assert done.returncode == 1 and "run the same command again" in done.stderr, done.stderr
        size = os.path.getsize(path + ".partial")
        assert size == 64 + 32 and not os.path.exists(path), size  # one expert
        done = self.run(0, "hash", "--output", path, src)
        assert "12 of 12 experts" in done.stdout and " of it now in " in done.stdout, done.stdout
        assert not os.path.exists(path + ".partial")
        self.run(0, "hash", "--output", self.path("whole"), src)
        with open(path, "rb") as a, open(self.path("whole"), "rb") as b:
            assert a.read() == b.read()
        for folder in ("/proc/none", ""):  # no state directory can be made, or found
            env = {**self.env, "STATE_DIRECTORY": folder, "XDG_STATE_HOME": "", "HOME": ""}
            if not folder and os.access("/var/lib/expertd", os.W_OK):
                continue
            done = subprocess.run([self.program, "hash", src], text=True, capture_output=True, env=env)
            assert done.returncode == 1 and "--output" in done.stderr, done.stderr
            assert folder in done.stderr

    def terminal(self):
        """The bar on a terminal, nothing of it in a pipe."""
        main, other = pty.openpty()
        shown = []

        def read():
            try:
                while data := os.read(main, 4096):
                    shown.append(data)
            except OSError:
                pass

        reader = threading.Thread(target=read)
        reader.start()
        status = subprocess.call([self.program, "pack", self.model("v3-fp8"), self.path("dst")],
                                 stderr=other, stdout=subprocess.DEVNULL, env=self.env)
        os.close(other)
        reader.join()
        os.close(main)
        text = b"".join(shown).decode()
        assert status == 0 and "[########################] 100 %" in text, text
        shutil.rmtree(self.path("dst"))

    def interrupt(self):
        """Ctrl-C, which is pending from the start, stops it at once; then it goes on."""
        src, dst = self.model("v3-fp8"), self.path("dst")

        done = self.pending_interrupt("pack", src, dst)
        assert done.returncode == 1 and "run the same command again" in done.stderr, done.stderr
        assert os.path.exists(dst + ".partial") and not os.path.exists(dst)
        self.run(0, "pack", src, dst)
        self.run(0, "pack", "--verify", src, dst)
        assert not os.path.exists(dst + ".partial")


def main():
    with tempfile.TemporaryDirectory() as folder:
        test = Test(sys.argv[1], os.path.join(sys.argv[2], "models"), folder)
        for step in (test.pack, test.drives, test.usage, test.hash, test.hash_goes_on,
                     test.terminal, test.interrupt):
            step()
            print(f"{step.__name__} good")


main()
