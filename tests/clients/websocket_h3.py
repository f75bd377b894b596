#!/usr/bin/env python3
"""A WebSocket over HTTP/3 (RFC 9220): aioquic for the stream, wsproto for what is on it.

    websocket_h3.py URL [TEXT ...]

Sends the texts, waits until each is answered, closes with 4321; prints one line of JSON: status, headers,
answers, code.
"""

import asyncio
import json
import ssl
import sys
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage


class Http3(QuicConnectionProtocol):
    """One connection with one WebSocket."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.socket = Connection(ConnectionType.CLIENT)
        self.head = asyncio.get_running_loop().create_future()
        self.answers, self.code, self.part = asyncio.Queue(), None, ""

    def quic_event_received(self, event):
        if isinstance(event, (StreamReset, ConnectionTerminated)):
            self.answers.put_nowait(None)
        for event in self.http.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.head.set_result(dict(event.headers))
            elif isinstance(event, DataReceived):
                if event.data:
                    self.socket.receive_data(event.data)
                for message in self.socket.events():
                    self.take(message)

    def take(self, message):
        if isinstance(message, TextMessage):
            self.part += message.data
            if message.message_finished:
                self.answers.put_nowait(self.part)
                self.part = ""
        elif isinstance(message, Ping):
            self.say(message.response())
        elif isinstance(message, CloseConnection):
            self.code = message.code
            self.answers.put_nowait(None)

    def say(self, message):
        self.http.send_data(self.stream, self.socket.send(message), end_stream=False)
        self.transmit()

    async def run(self, url, texts):
        self.stream = self._quic.get_next_available_stream_id()
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        fields = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "https",
            ":authority": url.netloc,
            ":path": target,
            "sec-websocket-version": "13",
        }
        fields = [(name.encode(), value.encode()) for name, value in fields.items()]
        self.http.send_headers(self.stream, fields, end_stream=False)
        self.transmit()
        head = await asyncio.wait_for(self.head, 30)
        head = {name.decode(): value.decode() for name, value in head.items()}
        result = {"status": int(head[":status"]), "headers": head, "answers": []}
        if result["status"] == 200:
            for text in texts:
                self.say(TextMessage(data=text))
                result["answers"].append(await asyncio.wait_for(self.answers.get(), 30))
            self.say(CloseConnection(code=4321))
            await asyncio.wait_for(self.answers.get(), 30)
            result["code"] = self.code
        return result


async def main(url, texts):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.verify_mode = ssl.CERT_NONE
    async with connect(
        url.hostname, url.port, configuration=configuration, create_protocol=Http3
    ) as client:
        print(json.dumps(await client.run(url, texts)))


asyncio.run(main(urlsplit(sys.argv[1]), sys.argv[2:]))
