"""What the provider says about one task, whoever brings it: a create, a query, a callback.

Only the provider's number for the state decides, and a task is done when its files are there: a
``state`` of 1 without the files that were asked for is a reason to ask again, never a success.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

from cutwork.reading import number, parse, plain, whole

_DONE = 1
_LONGEST_TASK = 3600.0
_TASK_ID = re.compile(r"[!-~]{1,200}")
_LINK = re.compile(r"https?://[^\s\x00-\x20\x7f-\xa0\ud800-\udfff]{1,4096}", re.IGNORECASE)


class Verdict(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Retry(StrEnum):
    """Whether a failed task is worth another task, which is paid for again."""

    NEVER = "never"
    BOUNDED = "bounded"
    ONCE = "once"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed. ``code`` is stable and keeps the provider's number: ``provider_-7``."""

    code: str
    sentence: str
    retry: Retry


@dataclass(frozen=True, slots=True)
class Report:
    """One statement about one task.

    ``image`` and ``mask`` are signed links: who has one has the picture, so ``repr`` hides them.
    ``progress`` is advisory, ``seconds`` from creation to completion by the provider's clock.
    ``state`` 1 with a verdict of PENDING is :attr:`incomplete`.
    """

    verdict: Verdict
    state: int | None = None
    task_id: str | None = None
    image: str | None = field(default=None, repr=False)
    mask: str | None = field(default=None, repr=False)
    foreground_rect: dict[str, int] | None = None
    image_width: int | None = None
    image_height: int | None = None
    progress: float | None = None
    detail: str = ""
    seconds: float | None = None

    @classmethod
    def read(
        cls, payload: object, *, wanted: Iterable[str] = (), hide: Iterable[str] = ()
    ) -> "Report | None":
        """Read decoded JSON, or the fields of a form, wrapped as ``{"status", "data"}`` or bare.

        ``wanted`` names the outputs (``image``, ``mask``) without which the task is not done; by
        default any will do. ``hide`` are secrets that ``detail`` must not repeat.

        None: the payload is not recognisably about a task, or its state, id or links are malformed.
        What is only told for information (sizes, progress) is dropped when malformed.
        """
        if not isinstance(payload, dict):
            return None
        task = _unwrapped(payload)
        try:
            state, task_id = _state(task.get("state")), _task_id(task.get("task_id"))
            image, mask = _link(task.get("image")), _link(task.get("mask"))
        except _MalformedError:
            return None
        if state is None and not (task_id or image or mask):
            return None
        accepted = _blank(payload.get("status")) or whole(payload["status"]) == 200
        links = {"image": image, "mask": mask}
        return cls(
            verdict=_verdict(state, accepted and _complete(links, wanted)),
            state=state,
            task_id=task_id,
            image=image,
            mask=mask,
            foreground_rect=_rect(task.get("foreground_rect")),
            image_width=whole(task.get("image_width")),
            image_height=whole(task.get("image_height")),
            progress=_progress(task.get("progress")),
            detail=_detail(task, hide),
            seconds=_seconds(task),
        )

    @property
    def incomplete(self) -> bool:
        """The provider calls the task done, but a file that was asked for is missing: ask again."""
        return self.state == _DONE and self.verdict is Verdict.PENDING

    def has(self, outputs: Iterable[str]) -> bool:
        """Whether there is a link for each of ``outputs``; for at least one, if none is named."""
        return _complete({"image": self.image, "mask": self.mask}, outputs)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, for the attempt's row. The links in it are secrets."""
        return dict(zip(_FIELDS, _values(self), strict=True)) | {"verdict": self.verdict.value}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Report":
        return cls(**{**row, "verdict": Verdict(row["verdict"])})


_FIELDS = tuple(item.name for item in fields(Report))
_values = attrgetter(*_FIELDS)


def failure(state: int) -> Failure:
    """What a negative ``state`` means; an unknown one keeps its number and is never retried."""
    unknown = ("the provider gave up for an unknown reason", Retry.NEVER)
    sentence, retry = _FAILURES.get(state, unknown)
    return Failure(f"provider_{state}", f"{sentence} (state {state})", retry)


_FAILURES = {
    -1: ("the provider could not process the picture", Retry.BOUNDED),
    -2: ("the provider made the result and then lost it", Retry.BOUNDED),
    -3: ("the provider could not download the source picture", Retry.ONCE),
    -4: ("the provider could not take the task in", Retry.NEVER),
    -5: ("the picture is too large for the provider", Retry.NEVER),
    -6: ("the picture is protected and cannot be opened", Retry.NEVER),
    -7: ("the source is not a picture that the provider can read", Retry.NEVER),
    -8: ("the provider ran out of time", Retry.BOUNDED),
    -9: ("the provider had an internal error", Retry.BOUNDED),
    -10: ("the provider's review refused the picture's content", Retry.NEVER),
    -11: ("the provider found nothing to cut out", Retry.NEVER),
    -13: ("the provider cancelled the task", Retry.BOUNDED),
    -14: ("the picture's content is not fit for this task", Retry.NEVER),
    -15: ("the provider has no capacity at the moment", Retry.LATER),
    -16: ("an outside review refused the picture's content", Retry.NEVER),
    -17: ("the provider refused the task's parameters", Retry.NEVER),
}


class _MalformedError(ValueError):
    """A field that decides something has a value that decides nothing."""


def _unwrapped(payload: Mapping[Any, Any]) -> Mapping[Any, Any]:
    data = payload.get("data")
    if isinstance(data, str):
        data = parse(data)
    if isinstance(data, dict):
        return data
    # PHP writes nested fields of a form as data[state]=1.
    nested = {
        key[5:-1]: value
        for key, value in payload.items()
        if isinstance(key, str) and key.startswith("data[") and key.endswith("]")
    }
    return nested or payload


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "null", "None"))


def _state(value: object) -> int | None:
    if _blank(value):
        return None
    state = whole(value)
    if state is None:
        raise _MalformedError
    return state


def _task_id(value: object) -> str | None:
    if _blank(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**20:
        value = str(value)
    if not isinstance(value, str) or not _TASK_ID.fullmatch(value.strip()):
        raise _MalformedError
    return value.strip()


def _link(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _MalformedError
    return value.strip() if _LINK.fullmatch(value.strip()) else None


def _rect(value: object) -> dict[str, int] | None:
    if isinstance(value, str):
        value = parse(value)
    if not isinstance(value, dict):
        return None
    sides = {name: whole(value.get(name)) for name in ("x", "y", "width", "height")}
    known = {name: side for name, side in sides.items() if side is not None}
    return known if len(known) == len(sides) else None


def _progress(value: object) -> float | None:
    told = number(value)
    return float(told) if told is not None and 0 <= told <= 100 else None


def _seconds(task: Mapping[Any, Any]) -> float | None:
    begun, ended = number(task.get("created_at")), number(task.get("completed_at"))
    if not begun or not ended:
        return None
    return float(ended - begun) if 0 <= ended - begun <= _LONGEST_TASK else None


def _detail(task: Mapping[Any, Any], hide: Iterable[str]) -> str:
    told = [task.get("state_detail"), task.get("err_info")]
    texts = dict.fromkeys(text for text in told if isinstance(text, str) and not _blank(text))
    return plain("; ".join(texts), hide=hide)


def _verdict(state: int | None, complete: bool) -> Verdict:
    if state is not None and state < 0:
        return Verdict.FAILED
    return Verdict.DONE if state == _DONE and complete else Verdict.PENDING


def _complete(links: Mapping[str, str | None], outputs: Iterable[str]) -> bool:
    named = tuple(outputs)
    return all(links[name] for name in named) if named else any(links.values())
