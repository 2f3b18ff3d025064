# SPDX-License-Identifier: GPL-2.0-only
"""
The images that the node runs, as OCI archives: postern's, which is the last stage of the Dockerfile with the package that
`make deb` made here, and one of Debian's nginx and HAProxy. By buildah, on a Debian 12 that mmdebstrap makes.
"""

import os
import shutil
import subprocess
from pathlib import Path

from lib.case import Skip
from lib.paths import BUILD, REPOSITORY

CACHE = Path(os.environ.get("POSTERN_CACHE") or Path.home() / ".cache/postern") / "node"
BASE = "docker.io/library/debian:12-slim"
POSTERN = "postern.test/postern:e2e"
WORKLOAD = "postern.test/workload:e2e"
WORKLOAD_FILE = f"""
FROM {BASE}
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light haproxy && rm -rf /var/lib/apt/lists/*
"""


def build():
    """(postern's archive, the workloads')."""
    missing = [tool for tool in ("buildah", "mmdebstrap") if not shutil.which(tool)]
    if missing:
        raise Skip(f"not installed: {' '.join(missing)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{CACHE}/storage"\nrunroot = "{CACHE}/run"\n')
    return _postern(), _workload()


def _buildah(*argv):
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(CACHE / "storage.conf"), "STORAGE_DRIVER": "vfs",
                   "BUILDAH_ISOLATION": "chroot"}
    subprocess.run(["buildah", *map(str, argv)], check=True, env=environment, stdout=subprocess.DEVNULL)


def _image(name, text, archive, context):
    _base()
    (context / "Dockerfile").write_text(text)
    _buildah("bud", "--layers", "--quiet", "--network", "host", "--pull-never", "--tag", name, context)
    archive.unlink(missing_ok=True)
    part = archive.with_suffix(".part")
    part.unlink(missing_ok=True)
    _buildah("push", "--quiet", name, f"oci-archive:{part}:{name}")
    part.rename(archive)
    return archive


def _base():
    context = CACHE / "base"
    context.mkdir(exist_ok=True)
    tar = context / "debian-12.tar"
    if not tar.exists():
        part = tar.with_suffix(".part.tar")
        # usr-is-merged keeps usrmerge, and perl with it, out: as in the image of that name.
        done = subprocess.run(["nice", "mmdebstrap", "--quiet", "--variant=minbase", "--include=usr-is-merged",
                               "bookworm", part], check=False)
        if done.returncode:
            raise Skip("mmdebstrap cannot make a Debian 12 here: no mirror?")
        part.rename(tar)
    (context / "Dockerfile").write_text("FROM scratch\nADD debian-12.tar /\n")
    _buildah("bud", "--layers", "--quiet", "--tag", BASE, context)


def _postern():
    """Anew when a program or the Dockerfile is newer."""
    archive, context = CACHE / "postern.tar", CACHE / "postern"
    sources = [BUILD / name for name in ("posternd", "posternctl", "postern-controller")] + [REPOSITORY / "Dockerfile"]
    if archive.exists() and all(path.stat().st_mtime < archive.stat().st_mtime for path in sources):
        return archive
    context.mkdir(exist_ok=True)
    subprocess.run(["make", "--silent", "deb", f"O={BUILD}"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    package = max(BUILD.glob("postern_*.deb"), key=lambda path: path.stat().st_mtime)
    shutil.copy(package, context / "postern.deb")
    last = "FROM" + (REPOSITORY / "Dockerfile").read_text().rpartition("\nFROM")[2]
    return _image(POSTERN, last.replace("--from=build /postern.deb", "postern.deb"), archive, context)


def _workload():
    archive, context = CACHE / "workload.tar", CACHE / "workload"
    if archive.exists():
        return archive
    context.mkdir(exist_ok=True)
    return _image(WORKLOAD, WORKLOAD_FILE, archive, context)
