"""The exchange of a request: the host names it by a token in a header."""

from componentize_py_types import Err
from wit_world.imports import exchange
from wit_world.imports.wasi_http_types import Request

from .errors import WharfError


def of(request: Request) -> exchange.Exchange | None:
    """What the host knows of this exchange, or None where it named none that is still alive."""
    token = header(request, "wharf-exchange")
    if token is None:
        return None
    try:
        return exchange.open(token)
    except Err:
        return None


def must(request: Request) -> exchange.Exchange:
    """The exchange; an error where there is none."""
    found = of(request)
    if found is None:
        raise WharfError("no-host")
    return found


def header(request: Request, name: str) -> str | None:
    """A header's first value."""
    values = request.get_headers().get(name)
    return values[0].decode("latin-1") if values else None
