# SPDX-License-Identifier: GPL-2.0-only
"""
The backend's end of a TLS connection under full control: OpenSSL works on memory, the test moves the bytes. So it can
half-close, end without close_notify, reset, put garbage on the wire, and read when it wants to.
"""

import socket
import ssl
import threading

READ = 1 << 18


def server_context(leaf, versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3), ciphers=None, alpn=None):
    """ciphers: OpenSSL's words for TLS 1.2; for TLS 1.3 the server here takes what the client prefers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.certificate, leaf.key)
    context.minimum_version, context.maximum_version = versions
    if ciphers:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsPeer:
    """
    One thread may send while another receives: `_lock` guards OpenSSL's object, `_order` the order of what goes out.
    Neither is held while the socket is read, and `_lock` not while it is written.
    """

    def __init__(self, sock, context):
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock, self._order = threading.Lock(), threading.Lock()
        self._kept = []
        self.ending = None  # how the other end ended: "close_notify" or "truncated"

    def handshake(self):
        while True:
            try:
                self._write(self.tls.do_handshake)
                return self
            except ssl.SSLWantReadError:
                if not self._fill():
                    raise ConnectionAbortedError("the other end closed during the handshake") from None

    def answer_to(self, hello):
        """What the server has to say to a ClientHello; the test sends as much of it as it likes."""
        self._incoming.write(hello)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def send(self, data):
        view = memoryview(data)
        for start in range(0, len(view), READ):
            self._write(self.tls.write, view[start:start + READ])

    def receive(self, most=READ):
        """Some bytes; b"" at the end, then `ending` says which. A reset is the kernel's own ConnectionResetError."""
        while self.ending is None:
            try:
                if data := self._read(most):
                    return data
                self.ending = "close_notify"
            except ssl.SSLZeroReturnError:
                self.ending = "close_notify"
            except ssl.SSLWantReadError:
                if not self._fill():
                    self.ending = "truncated"
        return b""

    def receive_exactly(self, size):
        pieces = []
        while size:
            piece = self.receive(min(size, READ))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def receive_all(self):
        return b"".join(iter(self.receive, b""))

    def close_notify(self):
        """This direction ends properly, TLS and TCP; the other one goes on."""
        with self._order:
            with self._lock:
                self._keep_what_came()
                try:
                    self.tls.unwrap()
                except ssl.SSLWantReadError:
                    pass  # the other end's own close_notify has not come yet
                out = self._outgoing.read()
            self.sock.sendall(out)
        self.sock.shutdown(socket.SHUT_WR)

    def _keep_what_came(self):
        """Python's unwrap() also looks for the other end's close_notify, and fails for good if it finds data instead."""
        try:
            while data := self.tls.read(READ):
                self._kept.append(data)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass

    def close(self):
        self.sock.close()

    def _write(self, action, *arguments):
        with self._order:
            try:
                with self._lock:
                    action(*arguments)
            finally:  # an alert goes out even if the action failed
                with self._lock:
                    out = self._outgoing.read()
                if out:
                    self.sock.sendall(out)

    def _read(self, most):
        with self._lock:
            if self._kept:
                data = self._kept.pop(0)
                if len(data) > most:
                    self._kept.insert(0, data[most:])
                return data[:most]
            return self.tls.read(most)  # what it has to answer goes out with the next write

    # For an end that never blocks (lib/streaming.py).

    def take_outgoing(self):
        """Records that are to be sent."""
        with self._lock:
            return self._outgoing.read()

    def decrypt(self, data):
        """What these bytes of the wire bring; `ending` is set at close_notify."""
        with self._lock:
            self._incoming.write(data)
        pieces = []
        while self.ending is None:
            try:
                if data := self._read(READ):
                    pieces.append(data)
                else:
                    self.ending = "close_notify"
            except ssl.SSLZeroReturnError:
                self.ending = "close_notify"
            except ssl.SSLWantReadError:
                break
        return b"".join(pieces)

    def _fill(self):
        data = self.sock.recv(READ)
        if data:
            with self._lock:
                self._incoming.write(data)
        return bool(data)
