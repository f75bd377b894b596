"""What the host refuses, as an error that knows its answer."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http import HTTPStatus

from componentize_py_types import Err
from wit_world.imports.wasi_http_types import Response

from .response import whole

_STATUSES = {
    "not-granted": HTTPStatus.FORBIDDEN,
    "invalid": HTTPStatus.BAD_REQUEST,
    "too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too-many": HTTPStatus.SERVICE_UNAVAILABLE,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "not-requested": HTTPStatus.UPGRADE_REQUIRED,
    "bad-handshake": HTTPStatus.BAD_REQUEST,
    "foreign-origin": HTTPStatus.FORBIDDEN,
    "unsupported": HTTPStatus.NOT_IMPLEMENTED,
    "not-acceptable": HTTPStatus.NOT_ACCEPTABLE,
    "precondition-failed": HTTPStatus.PRECONDITION_FAILED,
    "precondition-required": HTTPStatus.PRECONDITION_REQUIRED,
}

_MESSAGES = {
    "not-granted": "the manifest does not name the topic under [capabilities] hub",
    "too-large": "the event is too large",
    "too-many": "the plugin has too many subscriptions",
    "too-late": "the exchange is over",
    "busy": "too much is being published",
    "not-requested": "this is for clients that ask for a WebSocket",
    "foreign-origin": "pages of this origin may not open this WebSocket",
    "unsupported": "no WebSocket can be had over this transport",
    "gone": "there is no such WebSocket any more",
    "full": "too much waits for the client of the WebSocket",
    "refused": "that is wrong, or not granted",
    "closed": "the client has left",
    "precondition-failed": "it is not the version that the request is about",
    "precondition-required": "name the version that is to be changed: If-Match with its ETag",
    "no-host": "no Wharf host is here",
}


class WharfError(Exception):
    """What the host refused: `code` as in the interfaces, for example `not-granted`."""

    def __init__(self, code: str, message: str | None = None, **headers: str) -> None:
        super().__init__(message or _MESSAGES.get(code, code))
        self.code = code
        self.status = _STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers.setdefault("retry-after", "1")

    def response(self) -> Response:
        """The answer, a problem document (RFC 9457). What is the server's own fault it does not tell."""
        problem = {"title": self.status.phrase, "status": self.status.value}
        if self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.code != "not-granted":
            problem["detail"] = str(self)
        headers = {"cache-control": "no-store", **self.headers}
        return whole(self.status, "application/problem+json", json.dumps(problem), headers)


@contextmanager
def asking() -> Iterator[None]:
    """Raises what the host refuses within as a `WharfError`."""
    try:
        yield
    except Err as refused:
        raise error_of(refused.value) from None


def error_of(value: object) -> WharfError:
    """`PublishError_NotGranted()`, or `SendError.GONE`, is `not-granted`, or `gone`."""
    if isinstance(value, Enum):
        return WharfError(value.name.lower().replace("_", "-"))
    case = type(value).__name__.rpartition("_")[2]
    code = re.sub(r"(?<!^)(?=[A-Z])", "-", case).lower()
    message = getattr(value, "value", None)
    return WharfError(code, message if isinstance(message, str) else None)
