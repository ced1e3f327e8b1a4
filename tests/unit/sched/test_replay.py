#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""test_replay.py REPLAY TRACES: tools/replay as a user calls it: exit statuses and what they say."""
import json
import os
import subprocess
import sys


def run(status, *args):
    done = subprocess.run([sys.argv[1], *args], text=True, capture_output=True)
    assert done.returncode == status, f"{args}: {done.returncode} {done.stdout!r} {done.stderr!r}"
    return done


def main():
    trace = os.path.join(sys.argv[2], "demo-eval-1.trace")
    for slots in ("0", "-1", "", "a", "4,", "101%", "0%", "4;5", ",".join("1" * 65)):
        assert "--slots: takes" in run(2, "--slots", slots, trace).stderr, slots
    for args in ((), ("--slots",), ("--synthetic",), ("--synthetic", "x"), ("--wrong", trace),
                 ("--slots", "4")):
        assert "usage: replay" in run(2, *args).stderr, args
    assert "usage: replay" in run(0, "--help").stdout
    assert "No such file" in run(1, trace + ".none").stderr
    rows = run(0, "--json", "--slots", "4,50%", trace).stdout.splitlines()
    assert [json.loads(row)["slots"] for row in rows][0] == 4 and len(rows) == 2, rows


main()
