#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""test_eval.py ROOT: the grade rules of tools/eval, as demo/model/README.md gives them."""
import importlib.machinery
import importlib.util
import os
import sys

ROWS = [  # text, answer, right
    ("The answer is 12.", "12", True),
    ("  12.\n", "12", True),
    ("12", "12", True),
    ("12..", "12", False),
    ("112", "12", False),
    ("-12", "12", False),
    ("-12", "-12", True),
    ("x = -12", "-12", True),
    ("--12", "-12", False),
    ("1.12", "12", False),
    ("_12", "12", False),
    ("a12", "12", False),
    ("é12", "12", False),
    ("(12", "12", True),
    ("12 apples", "12", False),
    ("", "12", False),
    ("s-t-o-p.", "s-t-o-p", True),
]


def main(root):
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("tool", os.path.join(root, "tools/eval"))
    tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("tool", loader))
    loader.exec_module(tool)
    wrong = [row for row in ROWS if tool.right(row[0], row[1]) != row[2]]
    print("wrong:", wrong)
    results = [{"task": "a", "right": True, "tokens": 2}, {"task": "a", "right": False, "tokens": 3},
               {"task": "b", "right": True, "tokens": 4}]
    summary = tool.summary("m", results)
    assert summary["tasks"]["a"] == {"n": 2, "right": 1, "accuracy": 0.5}
    assert summary["all"] == {"n": 3, "right": 2, "accuracy": 0.6667}
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
