#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""test_key.py EXPERTCTL: expertctl key as a user sees it: streams, exit statuses, what the file
holds afterwards, adds at the same time, changes that fail half way."""
import hashlib
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile


class Test:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.path = os.path.join(folder, "keys")

    def command(self, *args):
        return [self.program, "key", "--file", self.path, *args]

    def run(self, status, *args, **more):
        done = subprocess.run(self.command(*args), text=True, capture_output=True, **more)
        assert done.returncode == status, f"{args}: {done.returncode} {done.stdout!r} {done.stderr!r}"
        return done

    def text(self):
        with open(self.path, encoding="utf-8") as file:
            return file.read()

    def write(self, text, mode=0o640):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path, mode)

    def mode(self):
        return stat.S_IMODE(os.stat(self.path).st_mode)

    def names(self):
        return [row["name"] for row in json.loads(self.run(0, "--json", "list").stdout)]

    def add(self):
        assert "expertctl key add" in self.run(1, "list").stderr
        done = self.run(0, "add", "alice")
        key = done.stdout.rstrip("\n")
        assert re.fullmatch(r"sk-[0-9A-Za-z]{43,}", key), "a key alone on the standard output"
        assert "systemctl reload expertd" in done.stderr and key not in done.stderr
        digest = hashlib.sha256(key.encode()).hexdigest()
        assert re.fullmatch(rf"alice {digest} \d{{4}}-\d\d-\d\d\n", self.text()), self.text()
        assert self.mode() == 0o640, oct(self.mode())
        assert os.listdir(self.folder) == ["keys"]

        done = self.run(0, "--json", "--quiet", "add", "bob", "--rate", "60", "--concurrency", "0")
        answer = json.loads(done.stdout)
        assert answer["name"] == "bob" and answer["key"] != key and done.stderr == ""
        assert self.text().endswith(" rate=60/min concurrency=0\n"), self.text()
        before = self.text()
        assert "already" in self.run(1, "add", "alice").stderr
        assert self.text() == before

    def list(self):
        rows = json.loads(self.run(0, "--json", "list").stdout)
        assert [row["name"] for row in rows] == ["alice", "bob"]
        assert rows[0]["requests_per_minute"] is None and rows[0]["concurrency"] is None
        assert rows[1]["requests_per_minute"] == 60 and rows[1]["concurrency"] == 0
        assert not rows[1]["disabled"] and re.fullmatch(r"\d{4}-\d\d-\d\d", rows[1]["created"])
        lines = self.run(0, "list").stdout.splitlines()
        assert lines[0].split() == ["NAME", "CREATED", "A", "MINUTE", "AT", "ONCE"]
        assert lines[1].split()[2:] == ["default", "default"] and lines[2].split()[2:] == ["60", "none"]
        assert not re.search(r"[0-9a-f]{32}", "".join(lines)), "no hashes"

    def revoke(self):
        digest = "0" * 64
        text = ("# ours\n\n" f"first {digest[:-1]}1 2026-01-01 # a note\n" "  # between\n"
                f"second\t{digest[:-1]}2 2026-01-01 disabled\n"
                f"last {digest[:-1]}3 2026-01-01")
        self.write(text)
        done = self.run(0, "revoke", "second")
        assert done.stdout == "" and "systemctl reload expertd" in done.stderr
        assert self.text() == "".join(line for line in text.splitlines(True) if "second" not in line)
        self.run(0, "add", "more")  # the last line had no end
        assert self.names() == ["first", "last", "more"]
        assert self.text().startswith("# ours\n\nfirst ") and "# a note\n  # between\n" in self.text()
        before = self.text()
        assert "no key" in self.run(1, "revoke", "second").stderr
        assert self.text() == before
        for name in ("first", "last", "more"):
            self.run(0, "--quiet", "revoke", name)
        assert self.text() == "# ours\n\n  # between\n", self.text()

    def usage(self):
        for args in (["add"], ["list", "x"], ["revoke"], ["frob", "x"], ["add", "a b"], ["add", "-", "x"],
                     ["add", "sk-x"], ["add", "a" * 64], ["add", "\u00e4"], ["list", "--rate", "1"],
                     ["add", "x", "--rate", "1000001"], []):
            done = self.run(2, *args)
            assert done.stdout == "" and done.stderr.startswith("expertctl: "), args

    def damaged(self):
        self.write("one two three\n")
        for args in (["list"], ["add", "x"], ["revoke", "one"]):
            done = self.run(1, *args)
            assert f"{self.path}:1: " in done.stderr and done.stdout == ""
        assert self.text() == "one two three\n"
        self.write("", 0o666)
        assert "everybody can write" in self.run(1, "add", "x").stderr
        self.write("", 0o644)
        assert "everybody can read" in self.run(0, "list").stderr
        self.run(0, "add", "x")
        assert self.mode() == 0o640, "never wider than that"
        self.write("", 0o600)
        self.run(0, "add", "x")
        assert self.mode() == 0o600, "never wider than it was"
        gone = os.path.join(self.folder, "gone", "keys")
        done = subprocess.run([self.program, "key", "--file", gone, "add", "x"], text=True,
                              capture_output=True)
        assert done.returncode == 1 and "gone" in done.stderr and done.stdout == ""

    def links(self):
        real = os.path.join(self.folder, "real")
        os.unlink(self.path)
        with open(real, "w", encoding="utf-8"):
            pass
        os.chmod(real, 0o600)
        os.symlink("real", self.path)
        self.run(0, "add", "x")
        assert os.path.islink(self.path) and os.stat(real).st_size > 64
        os.unlink(self.path)
        os.unlink(real)
        done = subprocess.run([self.program, "key", "add", "x", "--file", "keys"], cwd=self.folder,
                              text=True, capture_output=True)
        assert done.returncode == 0 and self.names() == ["x"], "a path without a directory"

    def at_once(self):
        self.write("")
        many = [subprocess.Popen(self.command("add", f"n{i}"), stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True) for i in range(24)]
        keys = {process.communicate()[0] for process in many}
        assert all(process.returncode == 0 for process in many) and len(keys) == 24
        assert sorted(self.names()) == sorted(f"n{i}" for i in range(24))
        assert os.listdir(self.folder) == ["keys"]

    def fails(self):
        self.write("# before\n")
        with open(os.path.join(self.folder, "keys.new"), "w", encoding="utf-8") as file:
            file.write("what a crash has left")
        self.run(0, "add", "x")
        assert self.names() == ["x"] and os.listdir(self.folder) == ["keys"]

        before = self.text()
        with open("/dev/full", "w", encoding="utf-8") as full:  # nobody saw the key: it is not kept
            done = subprocess.run(self.command("add", "unseen"), stdout=full, stderr=subprocess.PIPE,
                                  text=True)
        assert done.returncode == 1 and "not kept" in done.stderr, done.stderr
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(self.command("add", "unseen"), stdout=write, stderr=subprocess.PIPE,
                              text=True)
        os.close(write)
        assert done.returncode == 1 and "not kept" in done.stderr, done.stderr
        assert self.text() == before

        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

        done = self.run(1, "add", "large", preexec_fn=small_files)
        assert done.stdout == "" and "File too large" in done.stderr, done.stderr
        assert self.text() == before and os.listdir(self.folder) == ["keys"]

    def owners(self):
        if os.geteuid() != 0:
            print("owners: not as root, skipped")
            return
        self.write("")
        os.chown(self.path, 1234, 5678)
        self.run(0, "add", "x")
        self.run(0, "revoke", "x")
        found = os.stat(self.path)
        assert (found.st_uid, found.st_gid) == (1234, 5678)
        # Somebody who may write the directory, but cannot give the file to its owner.
        os.chmod(self.folder, 0o777)
        os.chmod(self.path, 0o644)
        before = self.text()

        def nobody():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

        done = self.run(1, "add", "x", preexec_fn=nobody)
        assert "run it as root" in done.stderr, done.stderr
        assert self.text() == before and os.listdir(self.folder) == ["keys"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        test = Test(os.path.abspath(sys.argv[1]), folder)
        for name in ("add", "list", "revoke", "usage", "damaged", "links", "at_once", "fails", "owners"):
            getattr(test, name)()
            print(f"{name}: ok")


if __name__ == "__main__":
    main()
