# SPDX-License-Identifier: GPL-2.0-only
"""
A Debian 12 as it is installed on a machine, systemd and all, as the disk of a guest (tests/guest/run --system): by
mmdebstrap, once, in ~/.cache/postern/node.
"""

import hashlib
import os
import shutil
import subprocess

from images import CACHE
from lib.case import Skip

# systemd and what it wants, gateways, what postern's package depends on and recommends, what the tests call, and what a
# node has: runtimes, conmon, CNI's plug-ins.
PACKAGES = """usr-is-merged systemd systemd-sysv dbus kmod iproute2 procps
nginx-light haproxy
libbpf1 libcurl4 libjansson4 libmicrohttpd12 libnl-3-200 libnl-idiag-3-200 libssl3 libyaml-0-2 ca-certificates bpftool
python3 openssl curl nftables iptables
containerd runc crun conmon containernetworking-plugins""".split()
GIGABYTES = 8  # of a sparse file


def image():
    """The path of the disk's image; made where it is not there."""
    missing = [tool for tool in ("mmdebstrap", "mke2fs", "qemu-system-x86_64") if not shutil.which(tool)]
    if missing:
        raise Skip(f"not installed: {' '.join(missing)}")
    if os.geteuid():
        raise Skip("not root")
    CACHE.mkdir(parents=True, exist_ok=True)
    state = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    made = CACHE / f"debian-12-{state}.ext4"
    if made.exists():
        return made
    tree, part = CACHE / "debian-12", made.with_suffix(".part")
    shutil.rmtree(tree, ignore_errors=True)
    part.unlink(missing_ok=True)
    done = subprocess.run(["nice", "mmdebstrap", "--quiet", "--format=directory", "--variant=minbase",
                           f"--include={','.join(PACKAGES)}", "bookworm", tree], check=False)
    if done.returncode:
        raise Skip("mmdebstrap cannot make a Debian 12 here: no mirror?")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, part, f"{GIGABYTES}G"], check=True)
    shutil.rmtree(tree)
    part.rename(made)
    return made
