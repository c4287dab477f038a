"""What an error says, and the facts that it keeps for the program that catches it."""

import copy
import inspect
import pickle
from uuid import UUID

import pytest

from cutwork import errors
from cutwork.errors import (
    CutworkError,
    DatabaseNotReady,
    FetchFailed,
    InputPurged,
    InvalidInput,
    InvalidSetting,
    JobNotFound,
    KeyConflict,
    OwnerBusy,
    StillWorking,
    StorageError,
    WrongState,
)

JOB = UUID("0198c0de-0000-7000-8000-000000000001")
ALL = [
    InvalidInput("crop", 2, "must be true or false", "leave it out"),
    InvalidSetting("CUTWORK_RATE", "-1", "must be from 0.01 to 100000"),
    KeyConflict("order-1", "shop", JOB, ["crop", "format"]),
    JobNotFound(JOB),
    WrongState(JOB, "succeeded", "cancel", ["queued", "waiting"]),
    InputPurged(JOB),
    OwnerBusy("anna", [JOB, JOB]),
    StillWorking(JOB, "waiting", 2.5),
    DatabaseNotReady(None, "0001"),
    StorageError("file:///pictures", "it is full", "give it space"),
    FetchFailed("https://r.example/a.png", "link_dead", "answered 404", permanent=True),
]


def test_there_is_an_example_of_every_error() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    ours = {kind for kind in classes if issubclass(kind, CutworkError)}

    assert {type(error) for error in ALL} == ours - {CutworkError}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        *zip(
            ALL,
            [
                "crop must be true or false, got 2: leave it out",
                "CUTWORK_RATE must be from 0.01 to 100000, got '-1'",
                f"idempotency_key 'order-1' belongs to job {JOB}, which asked for something else"
                " (differs in: crop, format): use a new key for a new request",
                f"there is no job {JOB}: `cutwork list` shows those there are",
                f"cannot cancel job {JOB}: it is succeeded,"
                " and only queued, waiting jobs can be cancelled",
                f"job {JOB} cannot be sent again, its source picture was deleted"
                " (CUTWORK_KEEP_INPUTS): enqueue the picture anew",
                f"owner 'anna' has 2 unfinished or held jobs ({JOB}, {JOB}):"
                " let them end, or cancel them first (--cancel)",
                f"job {JOB} is still waiting after 2.5 s: it goes on;"
                f" `cutwork explain {JOB}` says what it waits for",
                "the database has no cutwork tables, this program needs 0001:"
                " run `cutwork db upgrade`",
                "storage file:///pictures: it is full: give it space",
                "storage https://r.example/a.png: answered 404",
            ],
            strict=True,
        )
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_sentence(error: CutworkError, sentence: str) -> None:
    assert str(error) == sentence


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
def test_an_error_keeps_its_facts_on_its_way_to_another_process(
    error: CutworkError, again: object
) -> None:
    assert callable(again)
    received = again(error)

    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received) == vars(error) != {}


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidInput, ValueError),
        (InvalidSetting, ValueError),
        (JobNotFound, LookupError),
        (StillWorking, TimeoutError),
        (FetchFailed, StorageError),
    ],
)
def test_an_error_is_caught_by_those_who_know_only_python(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


def test_a_long_value_is_cut() -> None:
    error = InvalidInput("type", "x" * 10_000, "must be person")

    assert len(str(error)) < 200
    assert str(error).endswith("xxx...")
    assert error.value == "x" * 10_000


def test_a_value_cannot_begin_a_new_line() -> None:
    assert "\n" not in str(InvalidInput("type", "x\nERROR all is lost", "must be person"))


@pytest.mark.parametrize(
    ("found", "words"), [(None, "has no cutwork tables"), ("0000", "is at revision 0000")]
)
def test_a_database_that_is_not_ready_says_where_it_stands(found: str | None, words: str) -> None:
    error = DatabaseNotReady(found, "0001")

    assert words in str(error)
    assert (error.found, error.wanted) == (found, "0001")


@pytest.mark.parametrize(("verb", "word"), [("retry", "retried"), ("cancel", "cancelled")])
def test_a_refused_verb_names_the_states_that_allow_it(verb: str, word: str) -> None:
    assert str(WrongState(JOB, "queued", verb, ["failed"])).endswith(
        f"only failed jobs can be {word}"
    )
