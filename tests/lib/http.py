# SPDX-License-Identifier: GPL-2.0-only
"""A small HTTP client on sockets that a SocketMaker has made."""

import hashlib
import http.client
from dataclasses import dataclass, field


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes = b""
    sha256: str = ""
    size: int = 0
    values: dict = field(default_factory=dict)  # of a body of "name=value" lines, as the test backends answer


def request(maker, address, port, path, method="GET", body=None, headers=None, timeout=30):
    """One request on a connection of its own. body: bytes, or an iterable of bytes (sent chunked)."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    connection.sock = maker.connect(address, port, timeout)
    try:
        return exchange(connection, path, method, body, headers)
    finally:
        connection.close()


def exchange(connection, path, method="GET", body=None, headers=None, keep=1 << 20):
    """One request on an open http.client connection. Of the body no more than `keep` bytes are kept, all are hashed."""
    chunked = body is not None and not isinstance(body, bytes)
    connection.request(method, path, body=body, headers=headers or {}, encode_chunked=chunked)
    response = connection.getresponse()
    digest, kept, size = hashlib.sha256(), [], 0
    while piece := response.read(1 << 18):
        digest.update(piece)
        if size < keep:
            kept.append(piece)
        size += len(piece)
    body = b"".join(kept)
    values = dict(line.split("=", 1) for line in body.decode("latin-1").splitlines() if "=" in line)
    return Answer(response.status, dict(response.getheaders()), body, digest.hexdigest(), size, values)
