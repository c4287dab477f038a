"""One event, one line, whatever the fields hold."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest

from cutwork import log
from cutwork.settings import Settings

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    known = {
        name: logger.level
        for name, logger in root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:], root.level = handlers, level
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(known.get(name, logging.NOTSET))


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was written since the last call; lines end wherever any reader could think so."""
    return lambda: capsys.readouterr().err.splitlines()


def test_a_text_line_is_the_event_and_its_fields(lines: Lines) -> None:
    log.configure(Settings())

    log.event("job stored", job="0198", seconds=1.5, size=None)

    (line,) = lines()
    when, said = line[:23], line[23:]
    assert len(when.split()) == 2
    assert said == " I cutwork: job stored job=0198 seconds=1.5 size=None"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ('say "no"', r'"say \"no\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", "back\\slash"),
        ("caf\u00e9", "caf\u00e9"),
        ("un caf\u00e9", '"un caf\u00e9"'),
        ("x\n2026-01-01 E cutwork: all is lost", r'"x\n2026-01-01 E cutwork: all is lost"'),
        ("x\r\x1b[31m", r'"x\r\u001b[31m"'),
        ("x\u2028y", r'"x\u2028y"'),
        ("x\x85y", r'"x\u0085y"'),
        ("x\u202ey", r'"x\u202ey"'),
        ("x\ud800y", r'"x\ud800y"'),
    ],
)
def test_a_value_cannot_pass_for_something_else(lines: Lines, value: str, shown: str) -> None:
    log.configure(Settings())

    log.event("heard", detail=value, next=1)

    (line,) = lines()
    assert line.endswith(f" heard detail={shown} next=1")


def test_a_json_line_is_one_object(lines: Lines) -> None:
    log.configure(Settings(log_format="json"))

    log.event("heard", level=logging.WARNING, detail='a\n"b"\u2028\x85\ud800', seconds=1.5)

    (line,) = lines()
    told = json.loads(line)
    at = told.pop("at")
    assert told == {
        "level": "warning",
        "logger": "cutwork",
        "event": "heard",
        "detail": 'a\n"b"\u2028\x85\ud800',
        "seconds": 1.5,
    }
    assert at.endswith("+00:00")
    assert at[10] == "T"


def test_a_value_that_is_no_json_is_written_as_its_text(lines: Lines) -> None:
    log.configure(Settings(log_format="json"))

    log.event("heard", job=ValueError("odd"))

    assert json.loads(lines()[0])["job"] == "odd"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_comes_only_when_it_is_asked_for(lines: Lines, form: str) -> None:
    log.configure(Settings(log_format=form))

    for error in (False, True):
        try:
            raise ZeroDivisionError("by nought")
        except ZeroDivisionError:
            log.event("step failed", error=error)
        written = lines()
        assert ("ZeroDivisionError: by nought" in "".join(written)) is error
        assert len(written) == 1 or (form == "text" and error)


def test_a_field_is_never_taken_for_a_format(lines: Lines) -> None:
    log.configure(Settings())

    log.event("100% done %s", share="%d")

    assert lines()[0].endswith("100% done %s share=%d")


def test_other_libraries_write_the_same_lines(lines: Lines) -> None:
    log.configure(Settings(log_format="json"))

    logging.getLogger("sqlalchemy.pool").warning("%s connections", 7)

    told = json.loads(lines()[0])
    assert (told["logger"], told["event"]) == ("sqlalchemy.pool", "7 connections")


def test_loggers_that_write_urls_are_quiet(lines: Lines) -> None:
    log.configure(Settings(log_level="DEBUG"))

    for name, quiet in [
        ("urllib3.connectionpool", logging.WARNING),
        ("kombu.connection", logging.WARNING),
        ("amqp", logging.INFO),
        ("celery.worker.strategy", logging.INFO),
        ("celery.app.trace", logging.INFO),
    ]:
        logging.getLogger(name).log(quiet, "GET https://r.example/?Signature=secret")
    log.event("heard", level=logging.DEBUG)

    (line,) = lines()
    assert " D cutwork: heard" in line


def test_the_least_severe_line_is_the_operators_choice(lines: Lines) -> None:
    log.configure(Settings(log_level="WARNING"))

    log.event("too small")
    log.event("large enough", level=logging.WARNING)

    (line,) = lines()
    assert line.endswith("large enough")


def test_configuring_twice_does_not_write_twice(lines: Lines) -> None:
    log.configure(Settings())
    log.configure(Settings())

    log.event("heard")

    assert len(lines()) == 1
