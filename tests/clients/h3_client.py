#!/usr/bin/env python3
"""An HTTP/3 client (aioquic) for tests: sends requests, prints what came back as JSON.

    pip install aioquic==1.7.2
    h3_client.py [options] URL [URL ...]

One line of JSON a response: url, status, headers, body (without gzip), trailers, interim responses, seconds,
error. With --repeat, the requests are sent that many times; --concurrency of them are in flight at
once on one connection (or on --connections). --quiet prints one line of counts instead.
"""

import argparse
import asyncio
import base64
import collections
import gzip
import json
import ssl
import sys
import time
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset


class Exchange:
    """What has come back on one request stream."""

    def __init__(self):
        self.interim, self.headers, self.trailers = [], None, None
        self.body = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def receive(self, event):
        if isinstance(event, HeadersReceived):
            fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            status = dict(fields).get(":status")
            if self.headers is not None:
                self.trailers = fields
            elif status and status.startswith("1"):
                self.interim.append(fields)
            else:
                self.headers = fields
        elif isinstance(event, DataReceived):
            self.body += event.data
        if event.stream_ended and not self.done.done():
            self.done.set_result(None)

    def fail(self, error):
        if not self.done.done():
            self.done.set_result(error)


class Http3(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.exchanges = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.exchanges:
            self.exchanges[event.stream_id].fail(f"reset 0x{event.error_code:x}")
        elif isinstance(event, StopSendingReceived):
            pass  # A response may still be whole (RFC 9114 section 4.1).
        elif isinstance(event, ConnectionTerminated):
            for exchange in self.exchanges.values():
                exchange.fail(f"closed 0x{event.error_code:x} {event.reason_phrase}")
        for event in self.http.handle_event(event):
            exchange = self.exchanges.get(getattr(event, "stream_id", None))
            if exchange:
                exchange.receive(event)

    async def request(self, args, url):
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = [
            (b":method", args.method.encode()),
            (b":scheme", b"https"),
            (b":authority", (args.authority or parts.netloc).encode()),
            (b":path", target.encode()),
        ]
        fields += [pair(header) for header in args.header]
        stream = self._quic.get_next_available_stream_id()
        exchange = self.exchanges[stream] = Exchange()
        start = time.monotonic()
        error = None
        try:
            body, trailers = args.content, [pair(trailer) for trailer in args.trailer]
            self.http.send_headers(stream, fields, end_stream=body is None and not trailers)
            if body is not None:
                self.http.send_data(stream, body, end_stream=not trailers)
            if trailers:
                self.http.send_headers(stream, trailers, end_stream=True)
            self.transmit()
            error = await asyncio.wait_for(exchange.done, args.timeout)
        except asyncio.TimeoutError:
            error = "timeout"
            self._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            self.transmit()
        except Exception as failure:
            error = repr(failure)
        del self.exchanges[stream]
        return report(url, exchange, error, time.monotonic() - start)


def report(url, exchange, error, seconds):
    headers = exchange.headers or []
    result = {
        "url": url,
        "status": int(dict(headers).get(":status", 0)),
        "headers": [field for field in headers if not field[0].startswith(":")],
        "seconds": round(seconds, 6),
    }
    body = exchange.body
    if dict(headers).get("content-encoding") == "gzip" and not error:
        body = gzip.decompress(body)
    try:
        result["body"] = body.decode()
    except UnicodeDecodeError:
        result["body_base64"] = base64.b64encode(exchange.body).decode()
    if exchange.trailers is not None:
        result["trailers"] = exchange.trailers
    if exchange.interim:
        result["interim"] = exchange.interim
    if error:
        result["error"] = error
    return result


def pair(text):
    name, _, value = text.partition(":")
    return name.strip().lower().encode(), value.strip().encode()


async def run(args):
    first = urlsplit(args.urls[0])
    work = iter([url for _ in range(args.repeat) for url in args.urls])
    counts = collections.Counter()

    async def worker(connection):
        for url in work:
            result = await connection.request(args, url)
            whole = result["status"] and "error" not in result
            counts[str(result["status"]) if whole else result.get("error", "error")] += 1
            if not args.quiet:
                print(json.dumps(result), flush=True)

    async def connection(workers):
        config = QuicConfiguration(
            is_client=True, alpn_protocols=H3_ALPN, server_name=args.sni or first.hostname
        )
        if args.cacert:
            config.load_verify_locations(args.cacert)
        else:
            config.verify_mode = ssl.CERT_NONE
        async with connect(
            args.connect or first.hostname,
            first.port or 443,
            configuration=config,
            create_protocol=Http3,
        ) as client:
            await asyncio.gather(*(worker(client) for _ in range(workers)))

    start = time.monotonic()
    share = max(1, args.concurrency // args.connections)
    await asyncio.gather(*(connection(share) for _ in range(args.connections)))
    if args.quiet:
        print(json.dumps({"counts": counts, "seconds": round(time.monotonic() - start, 3)}))
    return 0 if all(key.isdigit() for key in counts) else 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("-X", "--method", help="GET, or POST with a body")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("-d", "--data", help="body; @FILE reads a file")
    parser.add_argument("--trailer", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--cacert", help="certificate to trust; without it nothing is verified")
    parser.add_argument("--connect", help="address to connect to in place of the URL's host")
    parser.add_argument("--sni", help="server name in place of the URL's host")
    parser.add_argument("--authority", help=":authority in place of the URL's")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("--quiet", action="store_true", help="counts only")
    args = parser.parse_args()
    args.content = None
    if args.data is not None and args.data.startswith("@"):
        with open(args.data[1:], "rb") as file:
            args.content = file.read()
    elif args.data is not None:
        args.content = args.data.encode()
    args.method = args.method or ("GET" if args.content is None else "POST")
    return args


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
