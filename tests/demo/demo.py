#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The main job on real parts, step by step: nginx as gateway, posternd, nginx as TLS backend, policies from a directory of
ordinary Kubernetes YAML. Ends with one table; the status is 0 only if every line of it held.
"""

import hashlib
import http.client
import os
import platform
import re
import signal
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import http as web
from lib.backend import Backend
from lib.certificates import Authority
from lib.paths import POSTERNCTL
from lib.pattern import Pattern
from lib.process import run, run_in
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.waiting import until
from lib.topology import GATEWAY4, backend4
from lib.world import GATEWAY_PORT, Service

MARKER = b"postern-demo-plaintext-marker"
SIZE = 100 << 20
BAD_PORT = 8444
STARTED = time.monotonic()


def progress(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def show(text, most=40):
    lines = text.rstrip().splitlines()
    for line in lines[:most]:
        print(f"          | {line}", flush=True)
    if len(lines) > most:
        print(f"          | ... ({len(lines) - most} more lines)", flush=True)


class Table:
    """What the demo claims, what was seen, and whether it held."""

    def __init__(self):
        self.rows = []

    def add(self, claim, seen, held):
        self.rows.append((claim, str(seen), bool(held)))
        print(f"          {'held' if held else 'DID NOT HOLD'}: {claim}: {seen}", flush=True)

    def print(self):
        width = max(len(claim) for claim, _, _ in self.rows)
        print("\nSummary")
        for claim, seen, held in self.rows:
            print(f"  {'ok  ' if held else 'FAIL'}  {claim:{width}}  {seen}")
        held = sum(1 for row in self.rows if row[2])
        print(f"\n{held} of {len(self.rows)} held, {time.monotonic() - STARTED:.0f} s", flush=True)
        return held == len(self.rows)


class DemoStage(Stage):
    KEEPALIVE = 4

    def _build(self):
        super()._build()
        self.bad = self.publish(Service("bad", 30, target=BAD_PORT, hostname="echo.example"))
        self.agent.until_policy("bad", within=60)


def control(stage, *words):
    """posternctl as an operator runs it."""
    return run(POSTERNCTL, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, *words, check=False).stdout


def requests(stage, table):
    progress("requests through nginx (plain proxy_pass) to the ClusterIP and to the endpoint, IPv4 and IPv6")
    for route, words in (("vip4", f"ClusterIP {stage.echo.vip4}"), ("vip6", f"ClusterIP {stage.echo.vip6}"),
                         ("pod4", f"endpoint {stage.echo.endpoint4[0]}"),
                         ("pod6", f"endpoint {stage.echo.endpoint6[0]}")):
        answer = stage.ask(route)
        seen = answer.values
        table.add(f"request to the {words}", f"{answer.status}, backend saw SNI {seen.get('sni')!r}, "
                  f"{seen.get('protocol')} {seen.get('cipher')}",
                  answer.status == 200 and seen.get("sni") == "echo.example")


def transfers(stage, table):
    progress(f"making {SIZE >> 20} MB to transfer")
    path = stage.tls_nginx.directory / "files/large"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in Pattern().pieces(SIZE):
            digest.update(piece)
            file.write(piece)
    wanted = digest.hexdigest()

    progress(f"{SIZE >> 20} MB download through the gateway")
    started = time.monotonic()
    answer = stage.ask("vip4", "files/large", timeout=120)
    seconds = time.monotonic() - started
    held = answer.status == 200 and answer.sha256 == wanted
    table.add(f"download of {SIZE >> 20} MB, sha256", f"{answer.sha256[:16]}... ({SIZE / seconds / 1e6:.1f} MB/s)", held)
    if not held:
        show("\n".join([f"{answer.size} bytes came", *stage.front.process.lines[-5:], *stage.explain()]))

    progress(f"{SIZE >> 20} MB upload through the gateway")
    started = time.monotonic()
    connection = http.client.HTTPConnection(GATEWAY4, GATEWAY_PORT, timeout=120, blocksize=1 << 18)
    connection.sock = stage.client.connect(GATEWAY4, GATEWAY_PORT, 120)
    with path.open("rb") as file:
        connection.request("PUT", "/vip4/upload/large", body=file, headers={"Content-Length": str(SIZE)})
        status = connection.getresponse().status
    connection.close()
    seconds = time.monotonic() - started
    uploaded = stage.tls_nginx.directory / "upload/large"
    seen = run("sha256sum", uploaded, within=120).stdout.split()[0] if uploaded.exists() else "no file"
    table.add(f"upload of {SIZE >> 20} MB, sha256", f"{seen[:16]}... ({SIZE / seconds / 1e6:.1f} MB/s)",
              status in (201, 204) and seen == wanted)
    path.unlink()
    uploaded.unlink(missing_ok=True)


def kernel_word(stage, table):
    progress("the kernel's own word about socket B, in the gateway's network namespace: ss -tie")
    stage.ask("vip4")  # its connection stays in nginx's pool
    said = run_in(stage.network["gateway"], "ss", "-tieH", "state", "established", "dst", stage.echo.vip4).stdout
    show(said, 4)
    found = re.search(r"tcp-ulp-tls [^\n]*?rxconf: sw txconf: sw", said)
    table.add("socket B by ss", found.group(0) if found else "no tcp-ulp-tls with rxconf: sw txconf: sw", found)

    progress("posternctl status")
    text = control(stage, "status")
    show(text)
    ready = stage.agent.status()["ready"]
    table.add("posternctl status", "ready" if ready else "not ready", ready and text)

    progress("posternctl connections")
    show(control(stage, "connections"))
    rows = stage.agent.connections()
    modes = sorted({f"{row['to_backend']}/{row['to_gateway']}" for row in rows})
    table.add("posternctl connections: modes to backend/to gateway", ", ".join(modes) or "none",
              rows and any(row["to_backend"].startswith("ktls") and row["to_gateway"].startswith("ktls")
                           for row in rows))


def send_markers(stage, port):
    """Requests that carry the marker, answers that carry it back, an upload full of it; how many answers had it."""
    answered = 0
    for route in ("vip4", "vip6", "pod4", "pod6"):
        answer = stage.ask(route, port=port, headers={"X-Marker": MARKER.decode()})
        answered += answer.values.get("marker") == MARKER.decode()
    try:
        stage.ask("vip4", "upload/markers", port=port, method="PUT", body=MARKER * 20_000)
    except (OSError, http.client.HTTPException):
        pass  # without postern the TLS backend ends the connection before it has taken all
    return answered


def wire(stage, table):
    progress("the wire between gateway and backend, searched for a marker that requests and answers carry")
    with stage.capture(MARKER) as tap:
        answered = send_markers(stage, GATEWAY_PORT)
        report = tap.report()
    uploaded = stage.tls_nginx.directory / "upload/markers"
    whole = uploaded.exists() and uploaded.read_bytes() == MARKER * 20_000
    table.add("markers that came through, with postern", f"{answered} of 4 answers, upload {'' if whole else 'not '}whole",
              answered == 4 and whole)
    table.add("plaintext markers on the wire, with postern", f"{report.markers} in {report.bytes} bytes",
              report.markers == 0 and report.bytes > len(MARKER) * 20_000)
    stage.start_gateway(stage.routes, port=8090, cgroup=stage.cgroups.make("not-enrolled"))
    with stage.capture(MARKER) as tap:
        send_markers(stage, 8090)
        report = tap.report()
    table.add("the same without postern (must be > 0)", f"{report.markers} in {report.bytes} bytes",
              report.markers > 0)


def wrong_certificate(stage, table):
    progress("a backend whose certificate is of another CA")
    other = Authority(stage.directory / "other-certificates", "other-ca")
    front = stage.start_gateway({"bad": [(stage.bad.vip4, 80)]}, port=8091)
    with Backend(stage.backend, backend4(2), BAD_PORT, server_context(other.leaf("bad", "DNS:echo.example"))):
        answer = stage.ask("bad", port=8091)
    # The gateway may have its refusal before the agent has written it down.
    failure = until(lambda: [each for each in stage.agent.failures() if each["policy"] == "default/bad"], 30,
                    "a failure of the policy default/bad")[0]
    show(control(stage, "failures"), 6)
    front.close()
    table.add("a backend with a wrong certificate", f"{answer.status}, reason {failure.get('reason')}",
              answer.status == 502 and failure.get("reason") == "certificate_untrusted")


def killed(stage, table):
    progress("the agent is killed with -9")
    stage.agent.kill()
    refused = []
    for address, port in ((stage.echo.vip4, 80), stage.echo.endpoint4, (stage.echo.vip6, 80), stage.echo.endpoint6):
        try:
            stage.gateway.connect(address, port, timeout=30).close()
        except ConnectionRefusedError:
            refused.append(address)
    table.add("agent killed: covered connects refused", f"{len(refused)} of 4", len(refused) == 4)
    with stage.capture(MARKER) as tap:
        status = stage.ask("vip4", headers={"X-Marker": MARKER.decode()}).status
        markers = tap.report().markers
    table.add("agent killed: a covered request", f"{status}, {markers} markers on the wire",
              status == 502 and markers == 0)
    table.add("agent killed: the uncovered Service", stage.ask("plain").status, stage.ask("plain").status == 200)


def main():
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    table = Table()
    progress(f"kernel {platform.release()}: namespaces, a demo CA, nginx backend, posternd, nginx gateway")
    with DemoStage() as stage:
        try:
            for step in (requests, transfers, kernel_word, wire, wrong_certificate, killed):
                step(stage, table)
        except Exception as error:  # pylint: disable=broad-except
            table.add("the demo runs to its end", f"{type(error).__name__}: {error}", False)
            show("\n".join(stage.explain()))
    sys.exit(0 if table.print() else 1)


if __name__ == "__main__":
    main()
