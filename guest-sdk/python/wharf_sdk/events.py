"""Events and subscriptions as a plugin writes them, made into those of the interfaces."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wit_world.imports import hub as host

from .errors import WharfError

type Data = Any
"""What an event carries: a string is text, bytes are binary, everything else becomes JSON."""

type Some[T] = T | Iterable[T]
"""One, or several."""


@dataclass(kw_only=True)
class Event:
    """An event: `Event({"total": 7}, name="order")`."""

    data: Data = field(default="", kw_only=False)
    name: str | None = None
    """The `event` field of event streams; none means `message`."""
    id: str | None = None
    """An id of one's own in place of the host's; not beginning with `#`."""
    retry: float | None = None
    """The `retry` field of event streams, in seconds."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Header fields of the answer to a long poll."""


@dataclass(kw_only=True)
class Publication:
    """An event and where it goes: `Publication("chat/lobby", "hello")`."""

    topic: str = field(kw_only=False)
    data: Data = field(default="", kw_only=False)
    name: str | None = None
    id: str | None = None
    retry: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    also: Some[str] = ()
    """Further topics that it belongs to; whoever follows several gets it once."""
    private: bool = False
    """Only for those whose private topics match."""
    besides: str | None = None
    """The stream or socket that does not get it: who sent it."""


@dataclass(kw_only=True)
class Heartbeat:
    """An event each `every` seconds without another."""

    every: float = field(kw_only=False)
    event: Event = field(default_factory=Event, kw_only=False)


def payload(data: Data) -> host.Payload:
    if isinstance(data, str):
        return host.Payload_Text(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return host.Payload_Binary(bytes(data))
    return host.Payload_Text(json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def event(given: Event | Publication) -> host.Event:
    retry = None if given.retry is None else milliseconds(given.retry)
    return host.Event(
        given.id, given.name, payload(given.data), retry, list(given.fields.items())
    )


def publication(given: Publication) -> host.Publication:
    return host.Publication(
        given.topic, several(given.also), event(given), given.private, given.besides
    )


def publications(given: Some[Publication]) -> list[host.Publication]:
    given = [given] if isinstance(given, Publication) else given
    return [publication(one) for one in given]


def subscription(
    topic: Some[str] = (),
    topics: Some[str] = (),
    private: Some[str] = (),
    within: str | None = None,
    selectors: Iterable[host.Selector] = (),
) -> host.Subscription:
    wanted = [*exact(topic), *_patterns(topics), *selectors]
    return host.Subscription(wanted, _patterns(private), within)


def exact(topic: Some[str]) -> list[host.Selector]:
    """A name that a client sent never becomes a pattern, nor does it look as if it were one."""
    names = several(topic)
    if any("*" in name.split("/") for name in names):
        fault = "a topic with a segment `*` is followed by `topics`, as a pattern"
        raise WharfError("invalid", fault)
    return [host.Selector_Exact(name) for name in names]


def _patterns(given: Some[str]) -> list[host.Selector]:
    return [host.Selector_Pattern(pattern) for pattern in several(given)]


def start(after: str | None, resume: bool, earliest: bool) -> host.Start:
    if after is not None:
        return host.Start_After(after)
    if resume:
        return host.Start_Request()
    return host.Start_Earliest() if earliest else host.Start_Now()


def several(given: Some[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def data_of(given: host.Payload) -> str | bytes:
    return given.value
