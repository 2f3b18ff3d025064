# SPDX-License-Identifier: GPL-2.0-only
"""Where things are: the repository, the programs under test, the kernel's file systems, this run's own directory."""

import os
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = Path(__file__).resolve().parent

# `make O=...` puts O into the environment of what it starts.
BUILD = Path(os.environ.get("POSTERN_BUILD") or REPOSITORY / os.environ.get("O", "build")).resolve()
POSTERND = BUILD / "posternd"
POSTERNCTL = BUILD / "posternctl"
OTHER_ABI_POSTERND = BUILD / "tests/posternd-other-abi"

PYTHON = "/usr/bin/python3"

# Everything that a run makes carries this prefix and its process id, so that a later run can tell what is left over.
PREFIX = "postern-e2e-"

# Some of the programs that tests start live in sbin, which not every caller has in its PATH.
os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"


def run_directory():
    """A new directory for this run, on the machine's own temporary file system."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def cgroup2_mount():
    """The mount point of cgroup2, by the kernel's own word."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        if after.split()[0] == "cgroup2":
            return Path(before.split()[4])
    raise RuntimeError("no cgroup2 is mounted")
