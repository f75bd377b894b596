"""Responses: whole ones, and those in whose place the host puts what it holds."""

from collections.abc import Mapping

import componentize_py_async_support
import wit_world
from componentize_py_types import Ok
from wit_world.imports.wasi_http_types import Fields, Response

Headers = Mapping[str, str]


def whole(status: int, content_type: str, text: str, headers: Headers | None = None) -> Response:
    """A response whose body is known, and so its length."""
    body = text.encode()
    known = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
    writer, reader = wit_world.byte_stream()
    response = _response(status, known, reader)
    # The host reads the body after the handler has returned.
    componentize_py_async_support.spawn(_send(writer, body))
    return response


def held(token: str, headers: Headers | None = None, status: int = 200) -> Response:
    """A response in whose place the host puts what it holds under the token."""
    return _response(status, {**(headers or {}), "wharf-reply": token}, None)


def _response(
    status: int, headers: Headers, body: wit_world.ByteStreamReader | None
) -> Response:
    _, trailers = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(
        lambda: Ok(None)
    )
    fields = Fields.from_list([(name, value.encode()) for name, value in headers.items()])
    response, _ = Response.new(fields, body, trailers)
    response.set_status_code(int(status))
    return response


async def _send(writer: wit_world.ByteStreamWriter, body: bytes) -> None:
    with writer:
        await writer.write_all(body)
