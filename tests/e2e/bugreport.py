#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""posternctl bugreport: one tar, complete, and nothing secret in it: keys of Secrets are looked for in every form."""

import base64
import json
import os
import sys
import tarfile

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests
from lib.case import case, expect, expect_that, main
from lib.process import run
from lib.stage import Stage

TOKEN = "postern-secret-token-5f3a91c7d2"


class ReportStage(Stage):
    def gateway_objects(self):
        """The Gateway shows a client certificate, so that the agent has a private key."""
        self.client_leaf = self.authority.leaf("client", "DNS:gateway.example", usage="clientAuth")
        secret = manifests.tls_secret("client", self.client_leaf)
        secret["data"]["token"] = base64.b64encode(TOKEN.encode()).decode()
        return [manifests.gateway("demo", client_certificate="client"), secret]

    def gateway_flags(self, **more):
        return super().gateway_flags(gatewayRef="default/demo", **more)


def report(stage, *words):
    path = stage.directory / "report.tar"
    path.unlink(missing_ok=True)
    code, text, said = stage.agent.control("bugreport", "--output", path, *words)
    expect(f"exit status ({said})", code, 0)
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
        expect("modes", {oct(member.mode) for member in tar.getmembers()}, {"0o600"})
    return path, files


@case("it is whole: every command, the kernel's own view, the process and the machine")
def whole(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    path, files = report(stage)
    expect("mode of the file", oct(path.stat().st_mode & 0o777), "0o600")
    for name in ("version", "posternctl/status.json", "posternctl/connections.txt", "posternctl/certs.json",
                 "bpftool/programs.json", "bpftool/gateway_map.json", "agent/status", "agent/limits",
                 "machine/proc/version", "machine/etc/os-release"):
        expect_that(f"{name} in the tar", name in files, sorted(files))
    expect("status in it", json.loads(files["posternctl/status.json"])["pid"], stage.agent.pid)
    expect_that("the connection in it", str(g.getsockname()[1]).encode() in files["posternctl/connections.json"], None)
    expect_that("programs in it", b"connect4" in files["bpftool/programs.json"], None)
    listed = run("tar", "-tf", path).stdout.split()
    expect("tar lists the same files", sorted(listed), sorted(files))
    g.close()


@case("nothing secret: no private key in any form, no token, nothing of Secrets")
def nothing_secret(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    _, files = report(stage)
    lines = [line for line in stage.client_leaf.key.read_text().split("\n") if line and "-----" not in line]
    der = run("sh", "-c", f"openssl pkey -in {stage.client_leaf.key} -text -noout").stdout
    private = "".join(line.strip() for line in der.split("pub:")[0].split("priv:")[1].split("\n"))
    scalar = bytes.fromhex(private.replace(":", ""))
    forbidden = [b"PRIVATE KEY", TOKEN.encode(), base64.b64encode(TOKEN.encode()), scalar, scalar.hex().encode(),
                 base64.b64encode(stage.client_leaf.key.read_bytes()), *(line.encode() for line in lines)]
    everything = b"\0".join(files.values())
    expect("forbidden things in it", [each[:40] for each in forbidden if each in everything], [])
    # The test can fail: the certificate of the same Secret is public, and is there.
    certificate = [line for line in stage.client_leaf.certificate.read_text().split("\n") if line and "---" not in line]
    expect_that("the client certificate's subject is in it", b"CN=client" in everything, certificate[:1])
    g.close()


@case("an agent that hangs is waited for once, and not by each command", limit=170)
def hung(stage):
    stage.agent.suspend()
    try:
        _, files = report(stage)  # 20 commands and more: 10 s for each would be too long
    finally:
        stage.agent.resume()
    for name in ("posternctl/failures.txt", "posternctl/connections.json", "agent/not-asked"):
        expect_that(f"why in {name}", b"the agent does not answer within" in files[name], files[name])
    expect_that("the kernel's half", b"8 of 8 hooks attached" in files["posternctl/status.txt"],
                files["posternctl/status.txt"])


@case("with a dead agent there is a report all the same; a file that exists is not touched")
def dead(stage):
    stage.agent.kill()
    path, files = report(stage)
    expect_that("why the agent was not asked", b"posternd.sock" in files["agent/not-asked"], sorted(files))
    expect_that("the kernel's half", b"connect4" in files["bpftool/links.json"] + files["bpftool/programs.json"], None)
    code, _, said = stage.agent.control("bugreport", "--output", path)
    expect("a second one to the same file", (code, "File exists" in said), (1, True))


if __name__ == "__main__":
    main(ReportStage)
