"""Spans of OpenTelemetry, in processes that have set it up; elsewhere this costs a look-up.

We never load it ourselves: where nobody did, nobody would take a span. The app's span is kept with
the job as a W3C ``traceparent``. What happens to the job later is a span of its own, of a trace of
its own if need be, that links to the app's: a callback may come an hour after its trace was sent.

Attributes are ids, numbers and words of ours. Never an address, a token, or the text of an error.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

_API = "opentelemetry.trace"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def current() -> str | None:
    """The ``traceparent`` of the span that this code runs in, if somebody records it."""
    api = sys.modules.get(_API)
    if api is None:
        return None
    span = api.get_current_span()
    if not span.is_recording():
        return None
    it = span.get_span_context()
    return f"00-{it.trace_id:032x}-{it.span_id:016x}-{it.trace_flags:02x}"


def trace_id(traceparent: str | None) -> str | None:
    """The trace's part of it, by which logs are searched."""
    parts = _TRACEPARENT.fullmatch(traceparent or "")
    return parts[1] if parts else None


class Step:
    """Something that happens to a job; here nobody records it."""

    def link(self, traceparent: str | None) -> None:
        """Link to the app's span, where that is known only now."""

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Add attributes, named after ours: ``job`` is ``cutwork.job``."""


class _Recorded(Step):
    def __init__(self, api: Any, span: Any) -> None:
        self._api, self._span = api, span

    def link(self, traceparent: str | None) -> None:
        if link := _link(self._api, traceparent):
            self._span.add_link(link.context)

    def tell(self, facts: Mapping[str, Any]) -> None:
        self._span.set_attributes(_attributes(facts))


_UNRECORDED = nullcontext(Step())


def step(
    name: str, kind: str, traceparent: str | None = None, facts: Mapping[str, Any] | None = None
) -> AbstractContextManager[Step]:
    """A span ``name`` around the block; ``kind`` is ``CLIENT`` or ``SERVER``."""
    api = sys.modules.get(_API)
    if api is None:
        return _UNRECORDED
    provider = api.get_tracer_provider()
    # Other libraries load it too; where nobody set it up, this one stands in.
    if isinstance(provider, api.ProxyTracerProvider):
        return _UNRECORDED
    link = _link(api, traceparent)
    span = provider.get_tracer("cutwork").start_span(
        name,
        kind=api.SpanKind[kind],
        links=[link] if link else [],
        attributes=_attributes(facts or {}),
    )
    return _recorded(api, span)


@contextmanager
def _recorded(api: Any, span: Any) -> Iterator[Step]:
    """An exception ends it as an error, by the name of its type: its text may hold a secret."""
    try:
        with api.use_span(span, record_exception=False, set_status_on_exception=False):
            yield _Recorded(api, span)
    except BaseException as error:
        span.set_status(api.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        span.end()


def _link(api: Any, traceparent: str | None) -> Any:
    parts = _TRACEPARENT.fullmatch(traceparent or "")
    if parts is None:
        return None
    trace, span, flags = (int(part, 16) for part in parts.groups())
    context = api.SpanContext(trace, span, is_remote=True, trace_flags=api.TraceFlags(flags))
    return api.Link(context) if context.is_valid else None


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"cutwork.{name}": value if isinstance(value, int) else str(value)
        for name, value in facts.items()
        if value is not None and name != "trace"
    }
