# SPDX-License-Identifier: GPL-2.0-only
"""Where kube-apiserver, etcd and the other parts are: `build-binaries PART` finds or builds them."""

import subprocess
from functools import cache
from pathlib import Path

from lib.case import skip

BUILDER = Path(__file__).resolve().parent.parent / "build-binaries"
CANNOT = 77


@cache
def part(name):
    """The directory of a part. Where it cannot be had the file's cases are skipped, with the builder's reason."""
    done = subprocess.run([BUILDER, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    if done.returncode == CANNOT:
        skip(said[-1])
    if done.returncode != 0:
        raise RuntimeError(f"{BUILDER} {name}: status {done.returncode}: " + " | ".join(said[-5:]))
    return Path(done.stdout.strip())
