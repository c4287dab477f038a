"""The metrics as one table, and their values from what was read; Prometheus is served these.

What is said of unfinished jobs is read at every scrape, from indexes that hold no other. What has
to be counted row by row is counted now and then (``cutwork.exporter``); such metrics say so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from sqlalchemy import Connection

from cutwork import backlog, budget, gate, lanes, notices, pace
from cutwork.census import Census
from cutwork.events import Kind
from cutwork.gate import Gate
from cutwork.settings import Settings
from cutwork.states import ALARMED, Attempt, State

Labels = tuple[str, ...]
# Name → labels in the order of the table → value.
Values = dict[str, dict[Labels, float]]

CONDITIONS = ("open", "paused", "closed", "tripped", "probing", "ramping")
_LANES = {State.QUEUED: "submit", State.WAITING: "check", State.STORING: "store"}
# Who can decide what; what stands at nought from the start has no first rise that nobody sees.
_DECIDED = {
    State.SUCCEEDED: ("callback", "poll", "reply"),
    State.FAILED: ("callback", "poll", "reply", "policy"),
    State.CANCELLED: ("operator",),
}


@dataclass(frozen=True)
class Metric:
    """``source``: ``read`` at every scrape, ``counted`` now and then, or ``both``, by state."""

    name: str
    help: str
    labels: Labels = ()
    source: str = "read"

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"


METRICS = (
    Metric("cutwork_build_info", "Always 1.", ("version", "database")),
    Metric("cutwork_database_up", "Whether the database answered (1) or not (0)."),
    Metric("cutwork_scrape_duration_seconds", "How long it took to read what is read each time."),
    Metric("cutwork_census_duration_seconds", "How long the latest count of all rows took."),
    Metric("cutwork_census_age_seconds", "How long ago that count was."),
    Metric("cutwork_jobs", "Jobs by state; those that are over until they are purged.",
           ("state",), source="both"),
    Metric("cutwork_oldest_job_age_seconds",
           "Age of the oldest job of each state that is not over; 0 without one.",
           ("state",), source="both"),
    Metric("cutwork_alarm_overdue_seconds",
           "For how long the longest ringing alarm has rung unheard, by state; 0 when none rings.",
           ("state",)),
    Metric("cutwork_backlog_jobs",
           "Jobs that are due, or named in the broker and not claimed yet, by lane.", ("lane",)),
    Metric("cutwork_lane_messages", "Jobs named in the broker and not claimed yet.", ("lane",)),
    Metric("cutwork_lane_workers", "Jobs that a worker has in hand.", ("lane",)),
    Metric("cutwork_lane_lapsed", "Jobs named in the broker that nobody claimed in time.",
           ("lane",)),
    Metric("cutwork_lane_limit", "Jobs that may be in the lane at once.", ("lane",)),
    Metric("cutwork_expiring_results",
           f"Results not in our storage whose link dies within {backlog.SOON:.0f} s."),
    Metric("cutwork_result_expires_in_seconds",
           "Time left to fetch the result whose link dies first; below 0 when it is dead."),
    Metric("cutwork_held_jobs", "Jobs that wait for a person, by error code.", ("code",),
           source="counted"),
    Metric("cutwork_jobs_finished_total", "Jobs that are over, by state and by who decided it.",
           ("state", "by"), source="counted"),
    Metric("cutwork_attempts", "Attempts by what is known of them, not purged yet.", ("state",),
           source="counted"),
    Metric("cutwork_submits_total", "Attempts: intents to submit, by key.", ("key",),
           source="counted"),
    Metric("cutwork_charges_total", "Attempts whose result the provider made, by key.", ("key",),
           source="counted"),
    Metric("cutwork_second_charges_total", "Charges beyond the first of a job.", source="counted"),
    Metric("cutwork_callbacks_total", "Authentic callbacks, repeated ones included, by key.",
           ("key",), source="counted"),
    Metric("cutwork_fruitless_checks_total", "Questions that brought no final answer, by key.",
           ("key",), source="counted"),
    Metric("cutwork_events_total",
           "What was unusual, by kind; forged are callbacks, the others are lines of the log.",
           ("kind",), source="counted"),
    Metric("cutwork_notices",
           "Notices that are still to be told (waiting), and those that were tried (failing).",
           ("progress",)),
    Metric("cutwork_key_condition", "1 for the condition that the key's gate is in, else 0.",
           ("key", "condition")),
    Metric("cutwork_key_closed_seconds",
           "Time until a closed or tripped key opens by itself; 0 when it is not.", ("key",)),
    Metric("cutwork_key_in_flight",
           "Jobs that the provider has, may have, or is about to get.", ("key",)),
    Metric("cutwork_key_in_flight_limit", "How many of these there may be now.", ("key",)),
    Metric("cutwork_callback_wait_seconds",
           "From acceptance to callback, of the latest finished attempts.", ("percentile",)),
    Metric("cutwork_provider_time_seconds",
           "How long the provider says that it took, of the latest finished attempts.",
           ("percentile",)),
    Metric("cutwork_callbacks_lost_ratio", "Share (0 to 1) of the latest callbacks that got lost."),
    Metric("cutwork_first_check_seconds",
           "From acceptance to the first question, as learned, with and without a callback.",
           ("callback",)),
    Metric("cutwork_budget_submits", "The daily budget; absent without one."),
    Metric("cutwork_budget_left_submits", "What is left of it today (UTC); absent without one."),
)  # fmt: skip


def live(tx: Connection, settings: Settings) -> Values:
    """What is read at every scrape."""
    standings, busy = backlog.standings(tx), lanes.busy(tx)
    expiring, gates, learned = backlog.expiring(tx), gate.read(tx), pace.read(tx)
    values: Values = {
        "cutwork_jobs": {(state,): one.jobs for state, one in standings.items()},
        "cutwork_oldest_job_age_seconds": {(state,): one.age for state, one in standings.items()},
        "cutwork_alarm_overdue_seconds": {(state,): one.late for state, one in standings.items()},
        "cutwork_backlog_jobs": {
            (lane,): standings[state].due + busy[state].messages for state, lane in _LANES.items()
        },
        "cutwork_lane_messages": {(lane,): busy[at].messages for at, lane in _LANES.items()},
        "cutwork_lane_workers": {(lane,): busy[at].workers for at, lane in _LANES.items()},
        "cutwork_lane_lapsed": {(lane,): busy[at].lapsed for at, lane in _LANES.items()},
        "cutwork_lane_limit": {
            ("submit",): settings.submit_lane,
            ("check",): settings.check_lane,
            ("store",): settings.store_lane,
        },
        "cutwork_expiring_results": {(): expiring.jobs},
        "cutwork_notices": {(name,): count for name, count in notices.count(tx).items()},
    }
    if expiring.soonest is not None:
        values["cutwork_result_expires_in_seconds"] = {(): expiring.soonest}
    if learned is not None:
        values |= _pace(learned)
    values |= _keys(gates, lanes.in_flight(tx), settings)
    left = budget.left(tx, settings, released=busy[State.QUEUED].messages)
    if left is not None:
        values["cutwork_budget_submits"] = {(): settings.daily_budget}
        values["cutwork_budget_left_submits"] = {(): left}
    return values


def counted(found: Census) -> Values:
    """What the latest count of all rows says."""
    resting: dict[Labels, float] = {(state,): 0 for state in State if state not in ALARMED}
    attempts: dict[Labels, float] = {(state,): 0 for state in Attempt}
    held: dict[Labels, float] = {}
    for (what, which), count in found.counted.items():
        first, _, second = which.partition(" ")
        if what == "jobs":
            resting[first,] += count
            if first == State.HELD:
                held[second,] = count
        elif what == "attempts":
            attempts[second,] += count
    age = (found.at - found.held_since).total_seconds() if found.held_since else 0.0
    gauges: Values = {
        "cutwork_jobs": resting,
        "cutwork_oldest_job_age_seconds": {(State.HELD,): max(0.0, age)},
        "cutwork_attempts": attempts,
        "cutwork_held_jobs": held,
    }
    return gauges | _totals(found)


def families(
    values: Mapping[str, Mapping[Labels, float]],
) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """The table with its values, as Prometheus' own package wants them."""
    for metric in METRICS:
        make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = make(metric.name, metric.help, labels=metric.labels)
        for labels, value in sorted(values.get(metric.name, {}).items()):
            family.add_metric(labels, value)
        yield family


def build(database: str) -> Values:
    """Who speaks."""
    return {"cutwork_build_info": {(version("cutwork"), database): 1}}


def together(*parts: Values) -> Values:
    """All of them; a metric may have some of its values from each."""
    made: Values = {}
    for part in parts:
        for name, values in part.items():
            made[name] = made.get(name, {}) | values
    return made


def _totals(found: Census) -> Values:
    values: Values = {
        "cutwork_jobs_finished_total": {
            (state, by): 0 for state, whom in _DECIDED.items() for by in whom
        },
        "cutwork_second_charges_total": {(): 0},
        "cutwork_events_total": {(kind,): 0 for kind in Kind},
        **{name: {} for name in _BY_KEY.values()},
    }
    for (what, which), count in (found.counted + found.kept).items():
        first, _, second = which.partition(" ")
        if what == "attempts":
            for name in _BY_KEY.values():
                values[name].setdefault((first,), 0)
        for name, labels in _total_of(what, first, second):
            grown = values[name]
            grown[labels] = grown.get(labels, 0) + count
    return values


_BY_KEY = {
    "submits": "cutwork_submits_total",
    "charges": "cutwork_charges_total",
    "callbacks": "cutwork_callbacks_total",
    "checks": "cutwork_fruitless_checks_total",
}


def _total_of(what: str, first: str, second: str) -> Iterator[tuple[str, Labels]]:
    """Each counter that such a count is part of, and with which labels."""
    match what:
        case "jobs" if first != State.HELD:
            yield "cutwork_jobs_finished_total", (first, second)
        case "attempts":
            yield _BY_KEY["submits"], (first,)
            if second == Attempt.SUCCEEDED:
                yield _BY_KEY["charges"], (first,)
        case "callbacks" | "checks":
            yield _BY_KEY[what], (first,)
        case "second_charges":
            yield "cutwork_second_charges_total", ()
        case "events":
            yield "cutwork_events_total", (first,)


def _pace(learned: pace.Pace) -> Values:
    return {
        "cutwork_callback_wait_seconds": {(name[1:],): at for name, at in learned.called.items()},
        "cutwork_provider_time_seconds": {(name[1:],): at for name, at in learned.own.items()},
        "cutwork_callbacks_lost_ratio": {(): learned.lost},
        "cutwork_first_check_seconds": {
            ("yes",): learned.first_called,
            ("no",): learned.first_polled,
        },
    }


def _keys(gates: list[Gate], flying: Mapping[str, int], settings: Settings) -> Values:
    return {
        "cutwork_key_condition": {
            (one.key_id, condition): one.condition == condition
            for one in gates
            for condition in CONDITIONS
        },
        "cutwork_key_closed_seconds": {(one.key_id,): _closed(one) for one in gates},
        "cutwork_key_in_flight": {(one.key_id,): flying.get(one.key_id, 0) for one in gates},
        "cutwork_key_in_flight_limit": {(one.key_id,): one.slots(settings) for one in gates},
    }


def _closed(one: Gate) -> float:
    if one.closed_until is None:
        return 0.0
    return max(0.0, (one.closed_until - one.at).total_seconds())
