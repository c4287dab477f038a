"""``docs/states.md``: states, events, attempts, the log of the unusual, and error codes."""

import ast
import inspect
from collections.abc import Iterator
from enum import Enum

from cutwork import events, fetching, ledger, report, states
from cutwork.report import Retry, failure
from cutwork.states import ALARMED, DONE, TRANSITIONS, Attempt, Event, State

INTRODUCTION = """\
# States, events and errors

The words that stand in rows, in JSON and in logs. They are stable, and scripts may rely on them. [Architecture](architecture.md#the-states) says what each state's alarm means and who acts on it.

This page is generated from `cutwork/states.py`, `cutwork/events.py` and `cutwork/report.py`.
"""

# What a person does about a code. A test compares the names with those that the code uses.
REMEDIES = {
    "host_refused": (
        "the result's link leads where none may lead",
        "If the host is right, add it to `CUTWORK_RESULT_HOSTS`, restart the workers, retry: fetched for free while the link lives",
    ),
    "input_unreadable": (
        "the source picture could not be read from storage, several times",
        "Mend the storage, retry. Nothing was sent",
    ),
    "key_gone": (
        "the API key that submitted it is no longer set, and no callback came",
        "Put the key back, or retry, which pays again",
    ),
    "no_answer": (
        "the provider said nothing final within `CUTWORK_WAIT_TIMEOUT`",
        "Ask the provider about the task id, then retry (pays again) or cancel",
    ),
    "rejected_NNN": (
        "the provider refused the request with that status; not charged",
        "Read the sentence and mend the request: the same one will be refused again",
    ),
    "result_gone": (
        "the result was made, and could not be fetched before its link died",
        "Mend what was in the way (`cutwork explain ID`), retry: pays again unless another result can still be fetched",
    ),
    "task_gone": (
        "the provider no longer knows the task; it may have been charged",
        "Retry, which pays again, or cancel",
    ),
    "too_large": (
        "the result is larger than `CUTWORK_RESULT_MAX_BYTES`, or its header promises too many pixels",
        "Raise the limit, restart the workers, retry while the link lives",
    ),
    "wrong_task": (
        "only a callback named the task, the reply being lost, and another job is known by the same one",
        "Look at the provider's list of tasks, then retry (may pay twice) or cancel. With `CUTWORK_CALLBACK_TRUST=payload` a callback that brings the result still completes it",
    ),
    "uncertain": (
        "nobody knows whether the submit arrived, and the policy says hold, fail, or no further payment",
        "Look at the bill, then retry (may pay twice) or cancel. A late callback still completes it",
    ),
}
_OF_PROVIDER = {
    -1: "Try another picture",
    -2: "Nothing; it was tried again",
    -3: "See that the address is public and answers within 10 s, or send the picture itself",
    -4: "Retry by hand, once",
    -5: "Send a smaller picture",
    -6: "Send a picture without a password",
    -7: "Send a jpg, png, bmp, webp or tiff",
    -8: "Retry when the provider is less busy",
    -9: "Retry later",
    -10: "Another picture",
    -11: "Another `type`, or another picture",
    -13: "Retry later",
    -14: "Another `type`, or another picture",
    -15: "Retry later",
    -16: "Another picture",
    -17: "Mend the request",
}
_TRIED = {
    Retry.NEVER: "no",
    Retry.BOUNDED: "up to `CUTWORK_MAX_PAID_ATTEMPTS`",
    Retry.ONCE: "once",
    Retry.LATER: "up to `CUTWORK_MAX_PAID_ATTEMPTS`, a minute later",
}
_HEAD = "Each row is an event. The cell says what becomes of a job in the state of its column; where it is empty, nothing changes.\n"
_SHOWN = [state for state in State if state is not State.SUCCEEDED]


def page() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        "## States of a job\n",
        _groups(),
        "## Events\n",
        _HEAD,
        matrix(),
        _events(),
    ]
    parts += ["## States of an attempt\n", _attempts(), "## The log of what was unusual\n", _log()]
    parts += ["## Error codes\n", _codes(), "### What the provider failed with\n", _provider()]
    return "\n".join(parts)


def matrix() -> str:
    """Every arrow: what an event makes of a job in each state."""
    head = f"| event | {' | '.join(f'`{state}`' for state in _SHOWN)} |"
    lines = [head, "|---" * (len(_SHOWN) + 1) + "|"]
    for event in Event:
        cells = [str(TRANSITIONS.get((state, event), "")) for state in _SHOWN]
        lines.append(f"| `{event}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _groups() -> str:
    held = "a person has to decide"
    told = [
        (ALARMED, "unfinished: an alarm rings when somebody must look"),
        (frozenset(State) - ALARMED - DONE, held),
        (DONE, "finished"),
    ]
    lines = [
        f"* {', '.join(f'`{state}`' for state in State if state in some)}: {what}"
        for some, what in told
    ]
    return "\n".join([*lines, ""])


def _events() -> str:
    first = "| event | what it says |"
    rows = [f"| `{event}` | {note} |" for event, note in _comments(Event)]
    return "\n".join([first, "|---|---|", *rows, ""])


def _attempts() -> str:
    head = "An attempt is one intent to submit. What is known of it only rises.\n\n| state | meaning | counts against `CUTWORK_MAX_PAID_ATTEMPTS` |\n|---|---|---|"
    rows = [
        f"| `{one}` | {note} | {'yes' if one in states.PAID else 'no'} |"
        for one, note in _comments(Attempt)
    ]
    return "\n".join([head, *rows, ""])


def _log() -> str:
    head = "Rows of `cutwork_event`, which `cutwork explain` shows with the rest.\n\n| kind | meaning |\n|---|---|"
    rows = [f"| `{one}` | {note} |" for one, note in _comments(events.Kind)]
    return "\n".join([head, *rows, ""])


def _codes() -> str:
    head = "A job that failed or is held has a code and a sentence (`job.error`, `cutwork show ID`).\n\n| code | meaning | what to do |\n|---|---|---|"
    rows = [f"| `{code}` | {what} | {do} |" for code, (what, do) in REMEDIES.items()]
    return "\n".join([head, *rows, ""])


def _provider() -> str:
    head = "The code keeps the provider's number. None of these is charged. A number that is not here is `provider_…` as well, and is not tried again.\n\n| code | meaning | tried again | what to do |\n|---|---|---|---|"
    rows = []
    for state, remedy in _OF_PROVIDER.items():
        told = failure(state)
        sentence = told.sentence.rpartition(" (")[0]
        rows.append(f"| `{told.code}` | {sentence} | {_TRIED[told.retry]} | {remedy} |")
    return "\n".join([head, *rows, ""])


def codes_in_use() -> set[str]:
    """The codes that the ledger gives to jobs, found in its source."""
    found = {code for code in fetching.PERMANENT if code != "link_dead"} | {"rejected_NNN"}
    tree = ast.parse(inspect.getsource(ledger))
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            place = {"hold": 2, "fault": 0}.get(call.func.attr)
            if place is not None and isinstance(call.args[place], ast.Constant):
                found.add(str(call.args[place].value))  # type: ignore[attr-defined]
    return found


def states_of_provider() -> tuple[set[int], set[int]]:
    """The provider's failures that the library knows, and those that this page has."""
    return set(report._FAILURES), set(_OF_PROVIDER)


def _comments(kind: type[Enum]) -> Iterator[tuple[str, str]]:
    """Each member with the comment behind it, or with what its name says."""
    lines = inspect.getsource(kind).splitlines()
    for member in kind:
        (line,) = [one for one in lines if one.startswith(f"    {member.name} = ")]
        yield str(member.value), line.partition("  # ")[2].replace("|", "\\|")
