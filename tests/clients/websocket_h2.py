#!/usr/bin/env python3
"""A WebSocket over HTTP/2 (RFC 8441): h2 for the stream, wsproto for what is on it.

    websocket_h2.py URL [TEXT ...]

Sends the texts, waits until each is answered, closes with 4321; prints one line of JSON: status, headers,
answers, code.
"""

import asyncio
import json
import ssl
import sys
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

STREAM = 1


class Http2:
    """One connection with one WebSocket."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.socket = Connection(ConnectionType.CLIENT)
        self.settings, self.head, self.ended = False, None, False
        self.answers, self.code, self.part = [], None, ""

    async def until(self, condition):
        """Reads until it holds."""
        while not condition():
            self.writer.write(self.http.data_to_send())
            data = await asyncio.wait_for(self.reader.read(65536), 30)
            if not data:
                raise ConnectionError("the server has closed the connection")
            for event in self.http.receive_data(data):
                self.take(event)

    def take(self, event):
        if isinstance(event, RemoteSettingsChanged):
            self.settings = True
        elif isinstance(event, ResponseReceived):
            self.head = dict(event.headers)
        elif isinstance(event, StreamEnded):
            self.ended = True
        elif isinstance(event, DataReceived):
            self.http.acknowledge_received_data(event.flow_controlled_length, STREAM)
            if event.data:
                self.socket.receive_data(event.data)
            for message in self.socket.events():
                if isinstance(message, TextMessage):
                    self.part += message.data
                    if message.message_finished:
                        self.answers.append(self.part)
                        self.part = ""
                elif isinstance(message, Ping):
                    self.http.send_data(STREAM, self.socket.send(message.response()))
                elif isinstance(message, CloseConnection):
                    self.code = message.code

    async def say(self, message):
        data = self.socket.send(message)
        while data:
            await self.until(lambda: self.http.local_flow_control_window(STREAM) > 0)
            room = self.http.local_flow_control_window(STREAM)
            piece = data[: min(room, self.http.max_outbound_frame_size)]
            self.http.send_data(STREAM, piece)
            data = data[len(piece):]

    async def run(self, url, texts):
        self.http.initiate_connection()
        await self.until(lambda: self.settings)
        assert self.http.remote_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        fields = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": url.scheme,
            ":authority": url.netloc,
            ":path": target,
            "sec-websocket-version": "13",
        }
        self.http.send_headers(STREAM, list(fields.items()))
        await self.until(lambda: self.head)
        result = {"status": int(self.head[":status"]), "headers": self.head}
        if result["status"] == 200:
            for number, text in enumerate(texts, 1):
                await self.say(TextMessage(data=text))
                await self.until(lambda: len(self.answers) == number)
            await self.say(CloseConnection(code=4321))
            await self.until(lambda: self.ended)
            self.http.end_stream(STREAM)
            self.writer.write(self.http.data_to_send())
            await self.writer.drain()
        return {**result, "answers": self.answers, "code": self.code}


async def main(url, texts):
    context = None
    if url.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    print(json.dumps(await Http2(reader, writer).run(url, texts)))
    writer.close()


asyncio.run(main(urlsplit(sys.argv[1]), sys.argv[2:]))
