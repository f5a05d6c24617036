#!/usr/bin/env python3
"""Counts what test runs did: summary.py TESTLOG.json... prints what they have to show (their lines that begin with "# | "), each
failure, with the end of what it said, and "N passed, N failed, N skipped".

A TAP test counts by its lines, a Criterion test by its synthesis, any other as one. Exit status 1 if
anything failed or nothing ran.
"""
import json
import re
import sys

FIRST, LAST = 6, 14 # lines of what a failed case said

passed = failed = skipped = 0
for path in sys.argv[1:]:
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = log.readlines()
    for line in lines:
        test = json.loads(line)
        text = test.get("stdout", "") + test.get("stderr", "")
        shown = re.findall(r"^# \| (.*)", text, re.M)
        if shown:
            print(f"{test['name']}:", *(f"    {line}" for line in shown), sep="\n")
        tap = re.findall(r"^(not ok|ok)\b([^\n]*)", text, re.M)
        criterion = re.search(r"Synthesis: Tested: .*?(\d+).*?Passing: .*?(\d+).*?Failing: .*?(\d+).*?Crashing: .*?(\d+)",
                              re.sub(r"\x1b\[[0-9;]*m", "", text))
        p = f = s = 0
        if re.search(r"^1\.\.\d+", text, re.M) and tap:
            for word, rest in tap:
                if "# SKIP" in rest:
                    s += 1
                elif word == "ok":
                    p += 1
                else:
                    f += 1
        elif criterion:
            tested, p = int(criterion[1]), int(criterion[2])
            f = int(criterion[3]) + int(criterion[4])
            if tested == 0:
                s = 1
        elif test["result"] == "SKIP":
            s = 1
        elif test["result"] == "OK":
            p = 1
        if test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and f == 0:
            f = 1
        if f:
            print(f"FAILED: {test['name']} ({path}): {test['result']}")
            cases = re.findall(r"^not ok\b.*\n(?:#.*\n)*", text, re.M)
            for case in cases + re.findall(r"^Bail out!.*", text, re.M) or [text]:
                lines = [line for line in case.splitlines() if line.strip("# ")]
                del lines[FIRST:-LAST]
                print(*(f"    {line[:300]}" for line in lines), sep="\n")
        passed, failed, skipped = passed + p, failed + f, skipped + s
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
