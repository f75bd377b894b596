"""WebSockets that the host holds: what a client sends comes to the plugin's export.

    return websocket.accept(request, protocols=["chat"], topic="chat/lobby")

    async def message(socket: websocket.Socket, data: str | bytes) -> None:
        await socket.send(data)

    WebsocketEventsAsync = websocket.events(message=message)
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import websocket_events_async as export
from wit_world.imports import exchange as host_exchange
from wit_world.imports import hub, websocket_async
from wit_world.imports import websocket as host
from wit_world.imports.wasi_http_types import Request, Response

from . import events as conversions
from . import exchange
from .errors import WharfError, asking, error_of
from .events import Data, Publication, Some, milliseconds
from .response import Headers, held

__all__ = ["Accepted", "Publication", "Socket", "accept", "events", "open_socket"]

# Refusals that are the client's, which `accept` answers itself.
_CLIENTS = {"not-requested", "bad-handshake", "foreign-origin", "unsupported"}


@dataclass(frozen=True)
class Socket:
    """A WebSocket, by the id that names it."""

    id: str
    protocol: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    async def send(self, data: Data) -> None:
        """Sends a message: a string is text, bytes are binary, everything else becomes JSON."""
        with asking():
            await websocket_async.send(self.id, conversions.payload(data))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it, after what is queued."""
        with asking():
            host.close(self.id, code, reason)

    def join(self, topic: Some[str] = (), topics: Some[str] = ()) -> None:
        """Follows further topics, or patterns of them, from now on."""
        with asking():
            host.join(self.id, conversions.subscription(topic, topics).topics)

    def leave(self, topic: Some[str] = (), topics: Some[str] = ()) -> None:
        """Follows these no longer."""
        with asking():
            host.leave(self.id, conversions.subscription(topic, topics).topics)


@dataclass(frozen=True)
class Accepted:
    """A WebSocket that begins once its response was given back."""

    response: Response
    socket: Socket


def accept(
    request: Request,
    *,
    protocols: Iterable[str] = (),
    origins: Iterable[str] | None = None,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: Iterable[hub.Selector] = (),
    resume: bool = False,
    after: str | None = None,
    earliest: bool = False,
    attributes: Mapping[str, str] | None = None,
    max_message: int | None = None,
    idle_timeout: float | None = None,
    ping_interval: float | None = None,
    rate: tuple[int, int] | None = None,
    compression: bool = False,
    on_open: Some[Publication] = (),
    on_close: Some[Publication] = (),
    headers: Headers | None = None,
) -> Response:
    """A response that accepts the WebSocket; where the client's request is none, what tells it so.

    Without `origins` only pages of the plugin's own origin may open it, and clients that are no browsers.
    `rate` is how many messages a client may send each second, and at once. Times are in seconds.
    """
    try:
        return open_socket(
            request,
            protocols=protocols,
            origins=origins,
            topic=topic,
            topics=topics,
            private=private,
            within=within,
            selectors=selectors,
            resume=resume,
            after=after,
            earliest=earliest,
            attributes=attributes,
            max_message=max_message,
            idle_timeout=idle_timeout,
            ping_interval=ping_interval,
            rate=rate,
            compression=compression,
            on_open=on_open,
            on_close=on_close,
            headers=headers,
        ).response
    except WharfError as error:
        if error.code in _CLIENTS:
            return error.response()
        raise


def open_socket(
    request: Request,
    *,
    protocols: Iterable[str] = (),
    origins: Iterable[str] | None = None,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: Iterable[hub.Selector] = (),
    resume: bool = False,
    after: str | None = None,
    earliest: bool = False,
    attributes: Mapping[str, str] | None = None,
    max_message: int | None = None,
    idle_timeout: float | None = None,
    ping_interval: float | None = None,
    rate: tuple[int, int] | None = None,
    compression: bool = False,
    on_open: Some[Publication] = (),
    on_close: Some[Publication] = (),
    headers: Headers | None = None,
) -> Accepted:
    """As `accept`, and what is known of the socket; every refusal is raised."""
    wanted = conversions.subscription(topic, topics, private, within, selectors)
    attributes = attributes or {}
    options = host.Options(
        list(protocols),
        None if origins is None else list(origins),
        wanted if wanted.topics else None,
        conversions.start(after, resume, earliest),
        list(attributes.items()),
        max_message,
        None if idle_timeout is None else milliseconds(idle_timeout),
        None if ping_interval is None else milliseconds(ping_interval),
        None if rate is None else host.Rate(*rate),
        compression,
        conversions.publications(on_open),
        conversions.publications(on_close),
    )
    with exchange.must(request) as current:
        try:
            accepted = host.accept(current, options)
        except Err as refused:
            raise _refusal(error_of(refused.value), request, current) from None
    socket = Socket(accepted.socket, accepted.protocol, attributes)
    return Accepted(held(accepted.token, headers), socket)


def _refusal(
    error: WharfError, request: Request, current: host_exchange.Exchange
) -> WharfError:
    """426 names the protocol in `Upgrade`, which only HTTP/1.1 has; a wrong version is told the right."""
    upgrades = current.connection().protocol == host_exchange.Protocol.HTTP1
    if error.code == "not-requested":
        return WharfError("not-requested", upgrade="websocket") if upgrades else error
    version = exchange.header(request, "sec-websocket-version")
    if error.code == "bad-handshake" and upgrades and version not in (None, "13"):
        return WharfError(
            "not-requested", str(error), upgrade="websocket", sec_websocket_version="13"
        )
    return error


def events(
    *,
    message: Callable[[Socket, str | bytes], Awaitable[None]] | None = None,
    closed: Callable[[Socket, int, str], Awaitable[None]] | None = None,
) -> type:
    """The export `websocket-events-async`: `WebsocketEventsAsync = websocket.events(message=…)`.

    `closed` gets 1005 where the close had no code, 1006 where there was none.
    """

    class WebsocketEventsAsync(exports.WebsocketEventsAsync):
        async def message(self, socket: export.Socket, message: hub.Payload) -> None:
            if on_message is not None:
                await on_message(_socket(socket), conversions.data_of(message))

        async def closed(self, socket: export.Socket, code: int, reason: str) -> None:
            if on_closed is not None:
                await on_closed(_socket(socket), code, reason)

    on_message, on_closed = message, closed
    return WebsocketEventsAsync


def _socket(given: export.Socket) -> Socket:
    return Socket(given.id, given.protocol, dict(given.attributes))
