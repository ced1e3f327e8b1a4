#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""spirv.py FOLDER: spirv-val accepts every compiled kernel (*.spv.inc: the words as C text)."""
import pathlib
import re
import shutil
import struct
import subprocess
import sys


def main(folder):
    if not shutil.which("spirv-val"):
        print("spirv-val is not installed")
        return 77
    files = sorted(pathlib.Path(folder).glob("*.spv.inc"))
    if not files:
        print(f"no compiled kernel in {folder}")
        return 1
    bad = 0
    for file in files:
        words = [int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]{8}", file.read_text())]
        done = subprocess.run(["spirv-val", "--target-env", "vulkan1.2", "-"],
                              input=struct.pack(f"<{len(words)}I", *words), capture_output=True)
        if done.returncode or not words:
            print(f"{file.name}: {done.stderr.decode()}{done.stdout.decode()}")
            bad += 1
    print(f"{len(files)} kernels, {bad} refused")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
