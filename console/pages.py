"""What each page shows: read from the database in one go, then given to its template."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select

from cutwork import database
from cutwork import job as records
from cutwork.clock import now
from cutwork.explain import explain
from cutwork.job import Job
from cutwork.schema import OVER
from cutwork.settings import Settings
from cutwork.states import ALARMED, DONE, State

from . import counting, deciding, filtering, keys, sparkline, trends, troubles, walking
from .asking import Asked
from .gallery import pieces
from .recent import Recent
from .trends import Step

_COUNTED_FOR, _TRENDS_FOR = 2.0, 30.0


@dataclass(frozen=True)
class Chart:
    """One measure of the last hours: its latest value in words, its line, and how far that goes."""

    name: str
    value: str
    unit: str
    line: Any
    reach: str


class Pages:
    """Each method gives the values of one template."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._reading = database.read_only(engine)
        self._counts = Recent(lambda: self._ask(counting.count), _COUNTED_FOR)
        self._trends = Recent(lambda: self._ask(trends.read), _TRENDS_FOR)

    def forget_counts(self) -> None:
        """Somebody decided something, and wants to see it."""
        self._counts.forget()

    def overview(self) -> dict[str, Any]:
        return {
            "counts": self._counts.get(),
            "charts": _charts(self._trends.get()),
            "hours": trends.HOURS,
            "groups": _groups(self._counts.get()),
        }

    def jobs(self, asked: Asked) -> dict[str, Any]:
        with self._reading.connect() as tx:
            at = tx.execute(select(now())).scalar_one()
            wanted = filtering.read(asked, at)
            found = walking.Found() if wanted.faults else walking.find(tx, wanted)
            listed = records.several(tx, found.ids)
            unasked = not found.ids and _asks_any_owner(wanted) and keys.are_more(tx)
        return {
            "at": at, "wanted": wanted, "found": found, "jobs": listed, "states": list(State),
            "owners": keys.MOST_OWNERS if unasked else 0,
            "pieces": {one.id: pieces(one) for one in listed},
        }  # fmt: skip

    def job(self, job_id: UUID, *, decides: bool) -> dict[str, Any]:
        """Raises:
        JobNotFound: no such job.
        """
        with self._reading.connect() as tx:
            one = records.read(tx, job_id)
            told = explain(tx, job_id, self._settings)
        foreseen = None
        if decides and one.state in OVER:
            foreseen = deciding.foresee(self._engine, [job_id], self._settings)
        return {
            "at": told.at, "job": one, "story": told, "files": pieces(one), "foreseen": foreseen,
            "can_cancel": decides and one.state not in DONE, "asked_for": _asked_for(one),
        }  # fmt: skip

    def troubles(self) -> dict[str, Any]:
        with self._reading.connect() as tx:
            at = tx.execute(select(now())).scalar_one()
            found = troubles.read(tx)
            newest = records.several(tx, [cause.newest for cause in found.causes])
        return {
            "at": at, "found": found, "page": deciding.PAGE, "looked": troubles.LOOKED,
            "jobs": {one.id: one for one in newest},
            "pieces": {one.id: pieces(one) for one in newest},
        }  # fmt: skip

    def cause(self, state: State, code: str) -> walking.Found:
        """The jobs that a decision about a cause would be about now."""
        with self._reading.connect() as tx:
            return troubles.page(tx, state, code, deciding.PAGE)

    def piece(self, job_id: UUID, name: str) -> Any:
        """A picture of a job, or None."""
        with self._reading.connect() as tx:
            listed = records.several(tx, [job_id])
        return pieces(listed[0]).get(name) if listed else None

    def _ask(self, question: Any) -> Any:
        with self._reading.connect() as tx:
            return question(tx)


def _asks_any_owner(wanted: filtering.Filter) -> bool:
    return bool(wanted.text("key") and not (wanted.text("owner") or wanted.digits))


def _groups(counts: counting.Counts) -> list[tuple[str, list[tuple[State, Any, Any]]]]:
    """The states as a person thinks of them."""
    named = {
        "At work": [state for state in State if state in ALARMED],
        "Needs you": [State.HELD, State.FAILED],
        "Over": [State.SUCCEEDED, State.CANCELLED],
    }
    return [
        (name, [(state, counts.jobs[state], counts.oldest.get(state)) for state in states])
        for name, states in named.items()
    ]


def _asked_for(one: Job) -> list[tuple[str, Any]]:
    hidden = ("image_file", "image_url")
    return [
        (name.replace("_", " "), value)
        for name, value in one.request.items()
        if name not in hidden and value not in (None, "", False)
    ]


def _charts(steps: list[Step]) -> list[Chart]:
    cut = " (more than could be counted)" if any(step.more for step in steps) else ""
    charges = sum(step.charges for step in steps)
    return [
        _chart("Pictures made", [step.made for step in steps], "{:.1f}", "a minute", cut),
        _chart("Enqueue to end", [step.latency for step in steps], "{:.1f}", "s, median", ""),
        _chart("Decided by callback", [_percent(step.called) for step in steps], "{:.0f}", "%", "",
               top=100.0),
        _chart("Charges", [float(step.charges) for step in steps], "{:.0f}", "in ten minutes",
               f"; {charges:,} in all{cut}"),
    ]  # fmt: skip


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _chart(
    name: str, values: list[float | None], form: str, unit: str, note: str, top: float | None = None
) -> Chart:
    known = [value for value in values if value is not None]
    latest = form.format(known[-1]) if known else "none"
    told, reach = f"{name}: {latest} {unit} at last", ""
    if known:
        reach = f"from {form.format(min(known))} to {form.format(max(known))}{note}"
        told += f", {reach}"
    return Chart(name, latest, unit, sparkline.draw(values, told, top), reach)
