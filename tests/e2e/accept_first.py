#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
accept_first.py CA HOSTNAME LISTEN=ADDRESS:PORT...

An accept-first TLS relay, as sidecars and transparent proxies are: it takes the gateway's connection at once and only
then looks whether there is a backend behind it. It is here to be measured beside postern; postern has no such mode.
"""

import socket
import ssl
import sys
import threading

DIAL_LIMIT = 30


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, backend, context, hostname):
    try:
        # The gateway's connect() has succeeded long ago; whatever fails from here on costs it its request.
        dialed = socket.create_connection(backend, timeout=DIAL_LIMIT)
        server = context.wrap_socket(dialed, server_hostname=hostname)
    except OSError:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        return
    server.settimeout(None)
    back = threading.Thread(target=pump, args=(server, client), daemon=True)
    back.start()
    pump(client, server)
    back.join()
    client.close()
    server.close()


def endpoint(text):
    address, port = text.rsplit(":", 1)
    return address, int(port)


def main():
    authority, hostname, *pairs = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    for pair in pairs:
        address, backend = pair.split("=")
        listener = socket.create_server(endpoint(address))
        threading.Thread(target=accept, args=(listener, endpoint(backend), context, hostname), daemon=True).start()
    print("listening", flush=True)
    threading.Event().wait()


def accept(listener, backend, context, hostname):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, backend, context, hostname), daemon=True).start()


if __name__ == "__main__":
    main()
