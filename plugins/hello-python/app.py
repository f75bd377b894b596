"""The Python sample plugin: what the host knows of a connection, an echo that streams, events that the
host hands on, and a WebSocket.

`componentize-py` makes a component of this file and CPython. The module `wit_world` is generated from
`wit/` during the build. Paths arrive whole, with the `/python` under which the plugin is mounted.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus

import wit_world
from componentize_py_types import Ok
from wharf_sdk import WharfError, cache, hub, sse, websocket
from wharf_sdk.exchange import of as exchange_of
from wharf_sdk.response import whole
from wit_world import exports
from wit_world.imports import exchange, monotonic_clock
from wit_world.imports.wasi_http_types import (
    Fields,
    Method_Delete,
    Method_Get,
    Method_Head,
    Method_Post,
    Request,
    Response,
)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>hello-python</title>
<h1>Hello from Python</h1>
<p>CPython, compiled to WebAssembly, answers this page.</p>
<ul>
<li><a href="/python/protocol">GET /python/protocol</a>: what the server knows of your connection
<li>POST /python/echo: the request's body, sent back as it arrives
<li><a href="/python/events">GET /python/events</a>: what is posted there, as it comes
<li><a href="/python/clock">GET /python/clock</a>: the time, each second
<li><a href="/python/cached">GET /python/cached</a>: the time at which it was first asked for; DELETE purges it
<li>GET /python/ws: a WebSocket that sends back what it gets
</ul>
</html>
"""

type Answer = Callable[[Request], Awaitable[Response]]

# Bytes of an event, and of one read of a body, at the most.
MAX_EVENT_BYTES = 65_536
READ_BYTES = 16_384

PROTOCOLS = {
    exchange.Protocol.HTTP1: "HTTP/1.1",
    exchange.Protocol.HTTP2: "HTTP/2",
    exchange.Protocol.HTTP3: "HTTP/3",
}


class Handler(exports.Handler):
    """The export `wasi:http/handler`."""

    async def handle(self, request: Request) -> Response:
        path = (request.get_path_with_query() or "/").partition("?")[0]
        answers: dict[type, Answer]
        match path:
            case "/python" | "/python/":
                answers = reads(page)
            case "/python/protocol":
                answers = reads(protocol)
            case "/python/echo":
                answers = {Method_Post: echo}
            case "/python/events":
                answers = reads(events) | {Method_Post: post_event}
            case "/python/clock":
                answers = reads(clock)
            case "/python/cached":
                answers = reads(cached) | {Method_Delete: purge_cached}
            case "/python/ws":
                answers = reads(socket)
            case _:
                return problem(HTTPStatus.NOT_FOUND)
        answer = answers.get(type(request.get_method()))
        if answer is None:
            allow = ", ".join(method.__name__.removeprefix("Method_").upper() for method in answers)
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, allow=allow)
        try:
            return await answer(request)
        except WharfError as error:
            return error.response()


def reads(answer: Answer) -> dict[type, Answer]:
    return {Method_Get: answer, Method_Head: answer}


async def page(_request: Request) -> Response:
    return whole(HTTPStatus.OK, "text/html; charset=utf-8", PAGE)


async def protocol(request: Request) -> Response:
    """The facts of one exchange. Those of TLS are null on a cleartext connection."""
    facts = dict.fromkeys(
        ("protocol", "tls_version", "cipher", "alpn", "sni", "peer", "connection_id", "requests")
    )
    facts |= {"early_data": False, "request_id": None, "route": None, "language": "Python"}
    if (current := exchange_of(request)) is not None:
        with current:
            connection = current.connection()
            facts |= {
                "protocol": PROTOCOLS[connection.protocol],
                "peer": connection.peer,
                "connection_id": connection.id,
                "requests": connection.requests,
                "request_id": current.request_id(),
                "route": current.route(),
            }
            if (tls := connection.tls) is not None:
                facts |= {
                    "tls_version": tls.version,
                    "cipher": tls.cipher,
                    "alpn": tls.alpn,
                    "sni": tls.sni,
                    "early_data": tls.early_data,
                }
    body = json.dumps(facts)
    return whole(HTTPStatus.OK, "application/json", body, {"cache-control": "no-store"})


async def echo(request: Request) -> Response:
    """Gives the body back as it arrives.

    It is not read here: the host joins its two ends, and its trailers follow it.
    """
    headers = Fields()
    if content_type := request.get_headers().get("content-type"):
        headers.set("content-type", content_type)
    _, received = wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))
    body, trailers = Request.consume_body(request, received)
    return Response.new(headers, body, trailers)[0]


async def events(request: Request) -> Response:
    """What is published for all languages. The host holds the stream: nothing here runs meanwhile."""
    return sse.stream(request, topics="hello/*", resume=True, retry=1)


async def post_event(request: Request) -> Response:
    """Publishes the body."""
    text = (await body_of(request)).decode(errors="replace")
    id = await hub.publish("hello/python", text, name="greeting")
    body = json.dumps({"id": id})
    return whole(HTTPStatus.CREATED, "application/json", body)


async def clock(request: Request) -> Response:
    """The time, each second, until the client leaves."""

    async def feed(events: sse.Emitter) -> None:
        while True:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            await events.send({"now": now}, name="tick")
            await monotonic_clock.wait_for(1_000_000_000)

    return sse.emit(request, feed)


async def cached(request: Request) -> Response:
    """The server's cache answers the next ones, for a minute or until it is purged."""
    body = json.dumps({"now": datetime.now(UTC).isoformat(timespec="milliseconds")})
    headers = {
        "cache-control": cache.cache_control(public=True, max_age=60),
        "surrogate-key": "python-clock",
        "etag": cache.etag(body),
    }
    return whole(HTTPStatus.OK, "application/json", body, headers)


async def purge_cached(_request: Request) -> Response:
    body = json.dumps({"purged": cache.purge_key("python-clock")})
    return whole(HTTPStatus.OK, "application/json", body)


async def socket(request: Request) -> Response:
    """A WebSocket, of which `send_back` gets the messages."""
    return websocket.accept(request, compression=True)


async def send_back(socket: websocket.Socket, data: str | bytes) -> None:
    await socket.send(data)


WebsocketEventsAsync = websocket.events(message=send_back)


async def body_of(request: Request) -> bytes:
    _, received = wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))
    body, _trailers = Request.consume_body(request, received)
    pieces = []
    with body:
        while piece := await body.read(READ_BYTES):
            pieces.append(piece)
            if sum(map(len, pieces)) > MAX_EVENT_BYTES:
                raise WharfError("too-large")
    return b"".join(pieces)


def problem(status: HTTPStatus, **headers: str) -> Response:
    """An error of RFC 9457, which no cache keeps."""
    body = json.dumps({"title": status.phrase, "status": status.value})
    headers = {"cache-control": "no-store", **headers}
    return whole(status, "application/problem+json", body, headers)
