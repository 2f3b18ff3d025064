#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
accept_first.py CA HOSTNAME LISTEN=ADDRESS:PORT...

An accept-first TLS relay, as sidecars and transparent proxies are: it takes the gateway's connection at once and only
then looks whether there is a backend behind it. It is here to be measured beside postern; postern has no such mode.
"""

import asyncio
import socket
import ssl
import sys

RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"


async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def relay(client_reader, client_writer, backend, context, hostname):
    try:
        # The gateway's connect() has succeeded long ago; whatever fails from here on costs it its request.
        reader, writer = await asyncio.open_connection(*backend, ssl=context, server_hostname=hostname)
    except OSError:
        client_writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client_writer.close()
        return
    pumps = [asyncio.create_task(pump(client_reader, writer)), asyncio.create_task(pump(reader, client_writer))]
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for each in pumps:
        each.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)
    client_writer.close()
    writer.close()


def endpoint(text):
    address, port = text.rsplit(":", 1)
    return address, int(port)


async def main():
    authority, hostname, *pairs = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    for listen, backend in (pair.split("=") for pair in pairs):
        target = endpoint(backend)
        await asyncio.start_server(lambda reader, writer, target=target: relay(reader, writer, target, context, hostname),
                                   *endpoint(listen))
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
