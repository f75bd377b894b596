"""Topics and their events: published by some, followed by others, with a history to go on from.

    id = await hub.publish("orders/42", {"total": 7}, name="order")
    past = hub.history(topic="orders/42", after=id)
    return hub.long_poll(request, topic="orders/42", after=last, timeout=25)

`topic` is that very topic, or several; `topics` are patterns such as `orders/*`. Of what a client names
make no pattern: `topic` refuses a segment `*`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from wit_world.imports import hub as host
from wit_world.imports import hub_async
from wit_world.imports.hub import Resumption, Selector
from wit_world.imports.wasi_http_types import Request, Response

from . import exchange
from .errors import asking
from .events import (
    Data,
    Event,
    Heartbeat,
    Publication,
    Some,
    data_of,
    milliseconds,
    publication,
    start,
    subscription,
)
from .response import Headers, held

__all__ = [
    "Event",
    "Heartbeat",
    "Past",
    "PastEvent",
    "Publication",
    "Resumption",
    "history",
    "long_poll",
    "position",
    "publish",
    "subscriber_count",
    "wait",
]


@dataclass(frozen=True)
class PastEvent:
    """An event of the history."""

    id: str
    topic: str
    published_at: datetime
    name: str | None
    data: str | bytes


@dataclass(frozen=True)
class Past:
    """Some of the history, oldest first."""

    events: list[PastEvent]
    resumption: Resumption
    last_id: str
    """The id to go on from."""


async def publish(
    topic: str,
    data: Data = "",
    *,
    name: str | None = None,
    id: str | None = None,
    retry: float | None = None,
    fields: Mapping[str, str] | None = None,
    also: Some[str] = (),
    private: bool = False,
    besides: str | None = None,
) -> str:
    """Publishes; gives the event's id once it has its place in the order, on durable topics on disk.

    `also` are further topics, `besides` is the stream or socket that does not get it.
    """
    given = Publication(
        topic,
        data,
        name=name,
        id=id,
        retry=retry,
        fields=fields or {},
        also=also,
        private=private,
        besides=besides,
    )
    with asking():
        return await hub_async.publish(publication(given))


def position() -> str:
    """The id of the latest event: what is read after this, and followed after that id, leaves no gap."""
    return host.position()


def history(
    *,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: list[Selector] | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Past:
    """What is kept of the events, oldest first, at most 1,000; all of it without `after`."""
    wanted = subscription(topic, topics, private, within, selectors or ())
    with asking():
        return _past(host.history(wanted, start(after, False, True), limit))


async def wait(
    *,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: list[Selector] | None = None,
    after: str | None = None,
    timeout: float = 25,
) -> Past:
    """Waits until there are such events, at most `timeout` seconds; empty where none came."""
    wanted = subscription(topic, topics, private, within, selectors or ())
    with asking():
        begin = start(after, False, False)
        return _past(await hub_async.wait(wanted, begin, milliseconds(timeout)))


def long_poll(
    request: Request,
    *,
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: list[Selector] | None = None,
    after: str | None = None,
    resume: bool = False,
    earliest: bool = False,
    timeout: float = 25,
    json_array: bool = False,
    timeout_status: int = 204,
    id_field: str | None = None,
    headers: Headers | None = None,
) -> Response:
    """A response that the host holds until there is an event, or `timeout` seconds are over.

    Its body is the data of the first event, or a JSON array of that of all that are there; `id_field`
    is a header field that gets the id of the last one.
    """
    wanted = subscription(topic, topics, private, within, selectors or ())
    options = host.PollOptions(
        wanted,
        start(after, resume, earliest),
        milliseconds(timeout),
        host.PollBody.JSON_ARRAY if json_array else host.PollBody.FIRST,
        timeout_status,
        id_field,
    )
    with asking(), exchange.must(request) as current:
        token = host.wait_reply(current, options)
    return held(token, headers)


def subscriber_count(topic: str) -> int:
    """How many streams, sockets and polls would get a public event of this topic."""
    with asking():
        return host.subscriber_count(topic)


def _past(past: host.Past) -> Past:
    events = [
        PastEvent(
            given.id,
            given.topic,
            datetime.fromtimestamp(given.published_at / 1000, UTC),
            given.event.name,
            data_of(given.event.data),
        )
        for given in past.events
    ]
    return Past(events, past.resumption, past.last_id)
