# SPDX-License-Identifier: GPL-2.0-only
"""A directory of test files as one suite: what the `run` of tests/e2e and tests/kubernetes have in common."""

import re
import subprocess
import sys

SUMMARY = re.compile(r"^(?:\S+: )?(\d+) passed, (\d+) failed, (\d+) skipped$")


def arguments(usage):
    """([FILE...], [WORD...]) of `run [FILE...] [-- WORD...]`; any switch prints the usage and ends."""
    files, words = sys.argv[1:], []
    if "--" in files:
        words = files[files.index("--") + 1:]
        files = files[:files.index("--")]
    if any(each.startswith("-") for each in files):
        print(usage.strip())
        sys.exit(0 if files[0] in ("-h", "--help") else 2)
    return files, words


def run_files(name, files, words):
    """Runs each to its end, whatever came before; ends with the line `NAME: N passed, N failed, N skipped`."""
    totals = [0, 0, 0]
    for path in files:
        print(f"-- {path.stem}", flush=True)
        for index, count in enumerate(_run_file(path, words)):
            totals[index] += count
    print("{}: {} passed, {} failed, {} skipped".format(name, *totals), flush=True)
    sys.exit(1 if totals[1] else 0)


def _run_file(path, words):
    """(passed, failed, skipped); a file that ends without its own summary has failed."""
    summary = None
    with subprocess.Popen([path, *words], stdout=subprocess.PIPE, text=True, errors="replace") as file:
        for line in file.stdout:
            print(line, end="", flush=True)
            summary = SUMMARY.match(line) or summary
    if not summary:
        print(f"FAIL {path.stem}: expected a summary line, seen status {file.returncode}", flush=True)
        return 0, 1, 0
    passed, failed, skipped = (int(count) for count in summary.groups())
    if file.returncode != 0 and not failed:
        print(f"FAIL {path.stem}: expected status 0, seen {file.returncode}", flush=True)
        failed = 1
    return passed, failed, skipped
