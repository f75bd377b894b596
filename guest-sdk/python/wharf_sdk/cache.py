"""What the shared cache in front of the plugin may keep, and what goes with it.

    body = json.dumps(post)
    tag = cache.etag(body)
    if cache.not_modified(request, etag=tag):
        ...  # 304
    headers = {"cache-control": cache.policy("semi-static"), "etag": tag, "surrogate-key": "post-1"}
    ...
    cache.check(request, etag=tag, required=True)  # 412, or 428 without a condition
    cache.purge_key("post-1")
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from wit_world.imports import cache as host
from wit_world.imports.cache import Decision
from wit_world.imports.wasi_http_types import Request

from .errors import WharfError, asking

__all__ = [
    "Decision",
    "Figures",
    "cache_control",
    "check",
    "etag",
    "etag_of_version",
    "evaluate",
    "figures",
    "negotiate_language",
    "negotiate_type",
    "not_modified",
    "policies",
    "policy",
    "purge",
    "purge_key",
]


@dataclass(frozen=True)
class Figures:
    """What the cache has of the plugin's answers, and what it did since the server started."""

    entries: int
    bytes: int
    hits: int
    misses: int


def policy(name: str) -> str:
    """The `Cache-Control` that a name stands for, such as `semi-static`."""
    with asking():
        return host.policy(name)


def policies() -> dict[str, str]:
    """All names, and what they stand for."""
    return dict(host.policies())


def cache_control(
    *,
    public: bool = False,
    private: bool | Iterable[str] = False,
    no_cache: bool | Iterable[str] = False,
    no_store: bool = False,
    no_transform: bool = False,
    must_revalidate: bool = False,
    proxy_revalidate: bool = False,
    must_understand: bool = False,
    immutable: bool = False,
    max_age: int | None = None,
    s_maxage: int | None = None,
    stale_while_revalidate: int | None = None,
    stale_if_error: int | None = None,
) -> str:
    """A `Cache-Control` made of its directives, times in seconds. `private` and `no_cache` may be names
    of fields. What contradicts itself is refused."""
    known = host.DirectiveFlags
    private_fields, no_cache_fields = _fields(private), _fields(no_cache)
    given = {
        known.PUBLIC: public,
        known.PRIVATE: private is True or bool(private_fields),
        known.NO_CACHE: no_cache is True or bool(no_cache_fields),
        known.NO_STORE: no_store,
        known.NO_TRANSFORM: no_transform,
        known.MUST_REVALIDATE: must_revalidate,
        known.PROXY_REVALIDATE: proxy_revalidate,
        known.MUST_UNDERSTAND: must_understand,
        known.IMMUTABLE: immutable,
    }
    flags = known(0)
    for flag, is_set in given.items():
        if is_set:
            flags |= flag
    directives = host.Directives(
        flags,
        max_age,
        s_maxage,
        stale_while_revalidate,
        stale_if_error,
        private_fields,
        no_cache_fields,
    )
    with asking():
        return host.cache_control(directives)


def etag(content: str | bytes, *, weak: bool = False) -> str:
    """The `ETag` of a text or of bytes, at most 4 MiB."""
    with asking():
        return host.etag_of(content.encode() if isinstance(content, str) else content, weak)


def etag_of_version(version: object, *, weak: bool = False) -> str:
    """The `ETag` of a version that the plugin counts or names itself."""
    return host.etag_of_version(str(version), weak)


def evaluate(
    request: Request,
    *,
    etag: str | None = None,
    last_modified: datetime | None = None,
    exists: bool = True,
    required: bool = False,
) -> Decision:
    """What the conditions of a request come to, in the order of RFC 9110."""
    fields = [
        (name, value.decode("latin-1"))
        for name, value in request.get_headers().copy_all()
        if name.lower().startswith("if-") or name.lower() == "range"
    ]
    modified = None if last_modified is None else int(last_modified.timestamp() * 1000)
    current = host.Validators(etag, modified) if exists else None
    with asking():
        return host.evaluate(_method(request), fields, current, required)


def not_modified(
    request: Request, *, etag: str | None = None, last_modified: datetime | None = None
) -> bool:
    """Whether the client of a GET has it, and 304 is the answer. Raises 412 where it wants another."""
    decision = evaluate(request, etag=etag, last_modified=last_modified)
    _refuse(decision)
    return decision == Decision.NOT_MODIFIED


def check(
    request: Request,
    *,
    etag: str | None = None,
    last_modified: datetime | None = None,
    exists: bool = True,
    required: bool = False,
) -> None:
    """Raises 412 where the conditions of a request that changes something do not hold, and 428 where one
    is required and there is none."""
    _refuse(
        evaluate(
            request, etag=etag, last_modified=last_modified, exists=exists, required=required
        )
    )


def negotiate_type(request: Request, offers: Sequence[str]) -> str:
    """Which of the media types the client wants; raises 406 where it accepts none. Vary by `Accept`."""
    return _chosen(offers, host.negotiate_type(_values(request, "accept"), list(offers)))


def negotiate_language(request: Request, offers: Sequence[str]) -> str:
    """Which of the languages the client wants; raises 406 where it accepts none. Vary by
    `Accept-Language`."""
    values = _values(request, "accept-language")
    return _chosen(offers, host.negotiate_language(values, list(offers)))


def purge(url: str, *, soft: bool = False) -> int:
    """Drops what the cache has of a URL, or makes it stale; gives the number of entries."""
    with asking():
        return host.purge(url, soft)


def purge_key(key: str, *, soft: bool = False) -> int:
    """The same for all that has this surrogate key."""
    with asking():
        return host.purge_key(key, soft)


def figures() -> Figures:
    """The figures now."""
    told = host.status()
    return Figures(told.entries, told.bytes, told.hits, told.misses)


def _refuse(decision: Decision) -> None:
    if decision in (Decision.PRECONDITION_FAILED, Decision.PRECONDITION_REQUIRED):
        raise WharfError(decision.name.lower().replace("_", "-"))


def _chosen(offers: Sequence[str], index: int | None) -> str:
    if index is None:
        raise WharfError("not-acceptable", f"there is {', '.join(offers)}")
    return offers[index]


def _values(request: Request, name: str) -> list[str]:
    return [value.decode("latin-1") for value in request.get_headers().get(name)]


def _fields(given: bool | Iterable[str]) -> list[str]:
    return [] if isinstance(given, bool) else list(given)


def _method(request: Request) -> str:
    method = request.get_method()
    other = getattr(method, "value", None)
    return other or type(method).__name__.removeprefix("Method_").upper()
