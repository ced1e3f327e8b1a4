#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""testlog.py LOG NAME RESULTS: one line a test from meson's testlog.json, and the output of those
that failed.  Appends "passed|failed|skipped NAME/TEST" to RESULTS.  Exit status 1: no log."""
import json
import sys

KIND = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
OUTPUT_LINES = 60


def last_line(test):
    """The reason of a skip is the last thing a test said."""
    lines = (test.get("stdout", "") + "\n" + test.get("stderr", "")).strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"


def main(log, name, results):
    try:
        with open(log, encoding="utf-8") as f:
            tests = [json.loads(line) for line in f if line.strip()]
    except (OSError, ValueError) as e:
        print(f"no test log: {e}")
        return 1
    with open(results, "a", encoding="utf-8") as out:
        for test in tests:
            kind = KIND.get(test["result"], "failed")
            title = test["name"].split(" / ")[-1]
            note = f": {last_line(test)}" if kind == "skipped" else ""
            if kind == "failed" and test["result"] != "FAIL":
                note = f": {test['result'].lower()}"
            print(f"{kind:8} {test['duration']:7.2f} s  {title}{note}")
            print(kind, f"{name}/{title}", file=out)
            if kind == "failed":
                text = test.get("stdout", "") + test.get("stderr", "")
                for line in text.splitlines()[-OUTPUT_LINES:]:
                    print("    " + line)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
