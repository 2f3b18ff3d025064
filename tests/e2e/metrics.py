#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""/metrics of a live agent: both formats, what promtool says, the numbers, hostile clients, and who has the address."""

import errno
import os
import re
import socket
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main
from lib.prometheus import check_metrics, free_port, get, sample, samples
from lib.stage import Stage
from lib.waiting import LONG, until

ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]+::?[0-9a-f:]*:")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class MetricsWorld(Stage):
    def start_agent(self, gateways=None, ready=True, workers=2, **switches):
        self.port = free_port()
        return super().start_agent(gateways, ready, workers, metrics_address=f"127.0.0.1:{self.port}",
                                   access_log="on", **switches)

    def scrape(self, accept=None):
        status, headers, body = get(self.port, "/metrics", accept)
        expect("status of /metrics", status, 200)
        return headers["Content-Type"], body


@case("promtool finds nothing to say about the metrics")
def clean(world):
    world.ask("vip4")
    kind, text = world.scrape()
    expect("type", kind, "text/plain; version=0.0.4; charset=utf-8")
    expect("promtool check metrics", check_metrics(text), "")
    expect_that("less than 2,000 series", 100 < len(samples(text)) < 2000, len(samples(text)))


@case("who asks for OpenMetrics gets it, with the same samples")
def openmetrics(world):
    world.agent.until_idle()
    kind, text = world.scrape(f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5")
    expect("type", kind, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    expect("last line", text.splitlines()[-1], "# EOF")
    names = {(name, tuple(sorted(labels.items()))) for name, labels, _ in samples(text)}
    plain = {(name, tuple(sorted(labels.items()))) for name, labels, _ in samples(world.scrape()[1])}
    expect("the same series", names, plain)
    addresses = [value for _, labels in names for _, value in labels if ADDRESS.search(value)]
    expect("addresses in labels", addresses, [])
    expect("text for who prefers it", world.scrape(f"{OPENMETRICS};q=0.1,text/plain;q=0.9")[0][:10], "text/plain")


@case("requests are counted by gateway, policy and mode")
def counted(world):
    before = world.scrape()[1]
    for _ in range(5):
        expect("status", world.ask("vip4").status, 200)
    expect("plain", world.ask("plain").status, 200)
    expect("one more", world.ask("pod4").status, 200)
    labels = {"gateway": "default/demo", "policy": "default/echo"}

    def seen():
        after = world.scrape()[1]
        grown = sample(after, "postern_connections_total", **labels) - \
            (sample(before, "postern_connections_total", **labels) or 0)
        return after if grown >= 6 else None
    after = until(seen, LONG, "6 more connections")
    expect_that("bytes to the gateway", sample(after, "postern_relayed_bytes_total", direction="to_gateway",
                                               **labels) > 0, after)
    handshakes = sample(after, "postern_handshakes_total")
    expect("observations of the histogram", sample(after, "postern_handshake_duration_seconds_count"), handshakes)
    expect("the last bucket", sample(after, "postern_handshake_duration_seconds_bucket", le="+Inf"), handshakes)
    expect_that("CPU of handshakes", sample(after, "postern_gateway_cpu_seconds_total", work="handshake") > 0, after)
    expect("gateway ready", sample(after, "postern_gateway_ready", gateway="default/demo", mode="enforce"), 1)
    expect("hooks attached", sample(after, "postern_gateway_hooks_attached", gateway="default/demo"), 1)
    expect("wire_not_tls", sample(after, "postern_wire_not_tls_total"), 0)
    expect("escaped", sample(after, "postern_escaped_total"), 0)
    expect("accepted policies", sample(after, "postern_policies", state="accepted"), 1)
    expiry = sample(after, "postern_ca_expiry_timestamp_seconds", policy="default/echo")
    expect_that("the CA's end lies ahead", expiry > time.time(), expiry)
    expect_that("hold proved", sample(after, "postern_proof_verdict", subject="hold") == 1, after)


@case("a refused connect is counted with its reason")
def refused(world):
    before = sample(world.scrape()[1], "postern_failures_total", reason="backend_refused")
    world.tls_nginx.close()
    try:
        expect("answer of the gateway", world.ask("vip4").status, 502)
        until(lambda: sample(world.scrape()[1], "postern_failures_total", reason="backend_refused", **{"class": "peer"})
              > before, 5, "the refusal in the metrics")
    finally:
        world.tls_nginx = world.serve("tls-again", [(world.echo.endpoint4[0], 8443), (world.echo.endpoint6[0], 8443)],
                                      world.leaf)


@case("a line for each connection that ends, if that is asked for")
def access_log(world):
    world.agent.until_idle()
    mark = world.agent.process.mark()
    expect("status", world.ask("vip4").status, 200)
    line = world.agent.process.wait_for(r'event="connection ended"', since=mark)
    for wanted in ("subsystem=access", "gateway=default/demo", f"destination={world.echo.vip4}:80",
                   'policy="default/echo"', 'sni="echo.example"', 'identity="echo.example"', "version=TLSv1.3",
                   "resumed=", "bytes_to_gateway=", "duration_ms=", "reason=none"):
        expect_that(f"{wanted} in the line", wanted in line, line)


@case("levels of the log change at run time, by subsystem")
def log_level(world):
    expect("levels", world.agent.ask("log-level")["levels"]["datapath"], "info")
    expect("one changed", world.agent.ask("log-level access error")["levels"]["access"], "error")
    mark = world.agent.process.mark()
    expect("status", world.ask("vip4").status, 200)
    world.agent.until_idle()
    expect("unknown", "error" in world.agent.ask("log-level access loud"), True)
    expect("back", world.agent.ask("log-level access info")["levels"]["access"], "info")
    expect("status", world.ask("vip4").status, 200)
    world.agent.process.wait_for(r'event="connection ended"', since=mark)
    world.agent.until_idle()
    lines = [line for line in world.agent.process.lines[mark:] if "connection ended" in line]
    expect_that("one line of two connections", len(lines) == 1, lines)


@case("other paths and methods are refused")
def other(world):
    expect("status of /", get(world.port, "/")[0], 404)
    expect("status of /livez", get(world.port, "/livez")[::2], (200, "alive\n"))
    for request, wanted in ((b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"405"),
                            (b"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
                            (b"HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"200"),
                            (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),  # no Host
                            (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
                            (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"b" * 20000 + b"\r\n\r\n", b"431")):
        answer = raw(world.port, request)
        expect_that(f"{wanted} to {request[:30]}", answer.split(b" ")[1:2] == [wanted], answer[:100])
    expect_that("HEAD has no body", b"# HELP" not in raw(world.port, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n"
                                                         b"Connection: close\r\n\r\n"), "a body")
    expect("garbage gets no answer, or a refusal", raw(world.port, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")[:12]
           in (b"", b"HTTP/1.1 400"), True)


def raw(port, request):
    """What it answered before it closed or, with some of the request unread, reset."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    return answer


@case("clients that never finish hold neither the others nor the agent", limit=120)
def hostile(world):
    world.agent.until_idle()
    before = world.agent.descriptors()
    idle = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(40)]
    for client in idle:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    expect("the gateway is served meanwhile", world.ask("vip4").status, 200)
    world.agent.until_idle()
    expect_that("descriptors are bounded", world.agent.descriptors() - before <= 40, world.agent.descriptors() - before)
    expect("another address is served", get(world.port, "/livez", source="127.0.0.2")[0], 200)
    # They are ended by their time without a byte, though they still hold on; then there is room again.
    until(lambda: alive(world.port), 40, "an answer to the address of the hostile clients", every=0.5)
    for client in idle:
        client.close()


def alive(port):
    try:
        return get(port, "/livez")[0] == 200
    except OSError:
        return False


@case("an address that is taken is tried again, and is no reason not to serve")
def taken(world):
    world.agent.stop()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = free_port()
        holder.bind(("127.0.0.1", port))
        holder.listen()
        agent = world.new_agent(metrics_address=f"127.0.0.1:{port}")
        world._agent = agent
        world._stack.callback(agent.stop)
        agent.process.wait_for('event="metrics not served"')
        expect("the gateway is served", world.ask("vip4").status, 200)
    agent.process.wait_for('event="metrics served"')
    expect("status", get(port, "/livez")[0], 200)


if __name__ == "__main__":
    main(MetricsWorld)
