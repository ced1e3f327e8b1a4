# SPDX-License-Identifier: MIT
"""faultfs.c for Python tests: mount a folder, make it misbehave, and leave nothing behind."""
import os
import shutil
import subprocess
import tempfile

SKIPPED = 77


def missing():
    """Why faultfs cannot work here, or None."""
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        return "fusermount3 is not installed and this is not root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there or not ours to open"
    return None


class FaultFs:
    """SOURCE as it shows at .path; use as a context, or start and stop."""

    def __init__(self, binary, source, *options):
        self.command_line = [binary, *options, os.path.abspath(source)]
        self.path = tempfile.mkdtemp(prefix="faultfs-")
        self.process = None

    def start(self):
        self.process = subprocess.Popen([*self.command_line, self.path], stdout=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL)
        if self.process.stdout.readline() != b"ready\n":
            status = self.process.wait()
            self.stop()
            raise AssertionError("faultfs ended with %s" % status)
        return self

    def stop(self):
        if self.process:
            if self.process.poll() is None:
                self.process.terminate()
            self.process.wait()
            self.process.stdout.close()
            self.process = None
        if self.is_mounted():  # it was killed
            subprocess.run(["fusermount3", "-u", "-z", self.path], check=False)
        if os.path.isdir(self.path):
            os.rmdir(self.path)

    def is_mounted(self):
        with open("/proc/self/mounts") as f:  # os.path.ismount fails where nobody answers
            return any(line.split(" ")[1] == self.path for line in f)

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    def command(self, kind, pattern=None, **keys):
        """Gives a command of rules.h; keys are its numbers ("start" is "from")."""
        words = [kind, *([pattern] if pattern else [])]
        words += ["%s=%d" % ("from" if k == "start" else k, v) for k, v in keys.items()]
        fd = os.open(os.path.join(self.path, ".control"), os.O_WRONLY)
        try:
            os.write(fd, (" ".join(words) + "\n").encode())
        finally:
            os.close(fd)
        for folder, _, names in os.walk(self.path):  # the kernel asks for sizes, and knows them
            for name in names:
                os.stat(os.path.join(folder, name))

    def clear(self, kind=None):
        self.command("clear", kind)

    def hits(self):
        """How many reads each rule in force has met, in their order."""
        with open(os.path.join(self.path, ".control")) as f:
            return [int(line.rsplit("hits=", 1)[1]) for line in f]
