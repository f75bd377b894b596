"""Event streams that the host holds: they cost no instance, and outlive this one.

    return sse.stream(request, topics="orders/*", resume=True)

    async def feed(events: sse.Emitter) -> None:
        await events.send({"seconds": 1}, name="tick")

    return sse.emit(request, feed)
"""

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import componentize_py_async_support
from wit_world.imports import sse as host
from wit_world.imports import sse_async
from wit_world.imports.hub import Resumption, Selector
from wit_world.imports.wasi_http_types import Request, Response

from . import events, exchange
from .errors import WharfError, asking
from .events import Data, Event, Heartbeat, Publication, Some, milliseconds
from .response import Headers, held

__all__ = [
    "Emitter",
    "Event",
    "EventStream",
    "Heartbeat",
    "Publication",
    "emit",
    "open_stream",
    "stream",
]


@dataclass(frozen=True)
class EventStream:
    """A stream that begins once its response was given back."""

    response: Response
    id: str
    """Names it in the hub's subscribers, and as `besides`."""
    resumption: Resumption
    last_id: str
    """The id of the event before the first that it will get; empty where that is not known."""


def stream(
    request: Request,
    *,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: Iterable[Selector] = (),
    resume: bool = False,
    after: str | None = None,
    earliest: bool = False,
    first: Iterable[Event] = (),
    heartbeat: float | Heartbeat | None = None,
    retry: float | None = None,
    drop_oldest: bool = False,
    ends_with: Some[str] = (),
    max_age: float | None = None,
    attributes: Mapping[str, str] | None = None,
    on_open: Some[Publication] = (),
    on_close: Some[Publication] = (),
    headers: Headers | None = None,
) -> Response:
    """A response that is an event stream, fed by topics, from now on.

    With `resume` it goes on after the event that the request names in `Last-Event-ID`, in the header or
    in the query. A `heartbeat` of so many seconds is a comment. `retry` is how long clients wait before
    they come back. A client that reads too slowly is disconnected, and comes back, or misses the oldest.
    """
    return open_stream(
        request,
        topic=topic,
        topics=topics,
        private=private,
        within=within,
        selectors=selectors,
        resume=resume,
        after=after,
        earliest=earliest,
        first=first,
        heartbeat=heartbeat,
        retry=retry,
        drop_oldest=drop_oldest,
        ends_with=ends_with,
        max_age=max_age,
        attributes=attributes,
        on_open=on_open,
        on_close=on_close,
        headers=headers,
    ).response


def open_stream(
    request: Request,
    *,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: Iterable[Selector] = (),
    resume: bool = False,
    after: str | None = None,
    earliest: bool = False,
    first: Iterable[Event] = (),
    heartbeat: float | Heartbeat | None = None,
    retry: float | None = None,
    drop_oldest: bool = False,
    ends_with: Some[str] = (),
    max_age: float | None = None,
    attributes: Mapping[str, str] | None = None,
    on_open: Some[Publication] = (),
    on_close: Some[Publication] = (),
    headers: Headers | None = None,
) -> EventStream:
    """As `stream`, and what is known of it."""
    options = host.Options(
        events.subscription(topic, topics, private, within, selectors),
        events.start(after, resume, earliest),
        [events.event(event) for event in first],
        _heartbeat(heartbeat),
        None if retry is None else milliseconds(retry),
        host.LagPolicy.DROP_OLDEST if drop_oldest else host.LagPolicy.DISCONNECT,
        events.several(ends_with),
        None if max_age is None else milliseconds(max_age),
        list((attributes or {}).items()),
        events.publications(on_open),
        events.publications(on_close),
    )
    with asking(), exchange.must(request) as current:
        begun = host.reply(current, options)
    return EventStream(held(begun.token, headers), begun.id, begun.resumption, begun.last_id)


class Emitter:
    """The plugin's end of a stream."""

    def __init__(self, end: host.Emitter) -> None:
        self._end = end

    async def send(
        self,
        data: Data = "",
        *,
        name: str | None = None,
        id: str | None = None,
        retry: float | None = None,
    ) -> None:
        """Sends an event; waits while 64 events, or 256 KiB, wait for the client."""
        with asking():
            event = events.event(Event(data, name=name, id=id, retry=retry))
            await sse_async.send(self._end, event)

    def comment(self, text: str) -> None:
        """Sends a comment."""
        with asking():
            self._end.comment(text)

    @property
    def is_closed(self) -> bool:
        """Whether the client has left or the server is draining."""
        return self._end.closed()

    async def closed(self) -> None:
        """Waits until the client has left or the server drains."""
        await sse_async.closed(self._end)

    def __enter__(self) -> Self:
        self._end.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end.__exit__(None, None, None)


def emit(
    request: Request,
    feed: Callable[[Emitter], Awaitable[None]],
    *,
    heartbeat: float | Heartbeat | None = None,
    retry: float | None = None,
    headers: Headers | None = None,
) -> Response:
    """A response that is an event stream, fed by `feed`, which runs on and ends it when it returns."""
    options = host.EmitterOptions(
        _heartbeat(heartbeat), None if retry is None else milliseconds(retry)
    )
    with asking(), exchange.must(request) as current:
        token, end = host.emit(current, options)
    componentize_py_async_support.spawn(_feed(feed, Emitter(end)))
    return held(token, headers)


async def _feed(feed: Callable[[Emitter], Awaitable[None]], emitter: Emitter) -> None:
    with emitter:
        try:
            await feed(emitter)
        except WharfError as error:
            if error.code != "closed":
                print(f"event stream broken off: {error}", file=sys.stderr)


def _heartbeat(given: float | Heartbeat | None) -> host.Heartbeat | None:
    if given is None:
        return None
    if isinstance(given, Heartbeat):
        kind = host.HeartbeatKind_Event(events.event(given.event))
        return host.Heartbeat(milliseconds(given.every), kind)
    return host.Heartbeat(milliseconds(given), host.HeartbeatKind_Comment())
