"""The Python sample plugin: what the host knows of a connection, and an echo that streams.

`componentize-py` makes a component of this file and CPython. The module `wit_world` is generated from
`wit/` during the build. Paths arrive whole, with the `/python` under which the plugin is mounted.
"""

import json
from http import HTTPStatus

import componentize_py_async_support
import wit_world
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import exchange
from wit_world.imports.wasi_http_types import (
    Fields,
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
</ul>
</html>
"""

PROTOCOLS = {
    exchange.Protocol.HTTP1: "HTTP/1.1",
    exchange.Protocol.HTTP2: "HTTP/2",
    exchange.Protocol.HTTP3: "HTTP/3",
}


class Handler(exports.Handler):
    """The export `wasi:http/handler`."""

    async def handle(self, request: Request) -> Response:
        path = (request.get_path_with_query() or "/").partition("?")[0]
        match path:
            case "/python" | "/python/":
                methods, answer = (Method_Get, Method_Head), page
            case "/python/protocol":
                methods, answer = (Method_Get, Method_Head), protocol
            case "/python/echo":
                methods, answer = (Method_Post,), echo
            case _:
                return problem(HTTPStatus.NOT_FOUND)
        if not isinstance(request.get_method(), methods):
            allow = ", ".join(method.__name__.removeprefix("Method_").upper() for method in methods)
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", allow))
        return answer(request)


def page(_request: Request) -> Response:
    return whole(HTTPStatus.OK, "text/html; charset=utf-8", PAGE)


def protocol(request: Request) -> Response:
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
    return whole(HTTPStatus.OK, "application/json", body, ("cache-control", "no-store"))


def exchange_of(request: Request) -> exchange.Exchange | None:
    """The exchange of a request, if the host named one that is still alive."""
    tokens = request.get_headers().get("wharf-exchange")
    if not tokens:
        return None
    try:
        return exchange.open(tokens[0].decode())
    except (Err, UnicodeDecodeError):
        return None


def echo(request: Request) -> Response:
    """Gives the body back as it arrives.

    It is not read here: the host joins its two ends, and its trailers follow it.
    """
    headers = Fields()
    if content_type := request.get_headers().get("content-type"):
        headers.set("content-type", content_type)
    _, received = wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))
    body, trailers = Request.consume_body(request, received)
    return Response.new(headers, body, trailers)[0]


def problem(status: HTTPStatus, *headers: tuple[str, str]) -> Response:
    """An error of RFC 9457, which no cache keeps."""
    body = json.dumps({"title": status.phrase, "status": status.value})
    return whole(
        status, "application/problem+json", body, ("cache-control", "no-store"), *headers
    )


def whole(status: HTTPStatus, content_type: str, text: str, *headers: tuple[str, str]) -> Response:
    """A response whose body is known, and so its length."""
    body = text.encode()
    fields = [("content-type", content_type), ("content-length", str(len(body))), *headers]
    writer, reader = wit_world.byte_stream()
    _, trailers = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(
        lambda: Ok(None)
    )
    response, _ = Response.new(
        Fields.from_list([(name, value.encode()) for name, value in fields]), reader, trailers
    )
    response.set_status_code(status.value)
    # The host reads the body after `handle` has returned.
    componentize_py_async_support.spawn(send(writer, body))
    return response


async def send(writer: wit_world.ByteStreamWriter, body: bytes) -> None:
    with writer:
        await writer.write_all(body)
