"""S11: real roles, everything that makes them complain, and no secret in what they leave behind."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests
from sqlalchemy import select

from cutwork import database, schema
from cutwork.cli.commands import cutwork
from cutwork.cli.faults import run
from cutwork.job import Job
from cutwork.settings import current, key_id
from cutwork.states import State
from tests.canaries import canary, forms, leaks
from tests.house import picture
from tests.parrot import REPEATS, Parrot
from tests.recovery.place import Place, deployed
from tests.services.private import PrivateServer
from tests.services.processes import Processes
from tests.services.waiting import run_until

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

JOBS = 16
FAULTS = {
    "schedule": {
        "0": ["lost_callback"],
        "1": ["result_expired"],
        "2": ["task_failed"],
        "3": ["error_500"],
        "4": ["accept_then_reset"],
        "5": ["garbage_callback"],
        "6": ["error_502_html"],
        "7": ["result_truncated"],
        "8": ["wrong_task_id_callback"],
    },
    "times": {"result_expired": 1},
}
# What by design holds a secret, and why.
BY_DESIGN = {
    ("source", "cutwork_job.request"): "the provider fetches the picture there at each attempt",
    ("link", "cutwork_attempt.report"): "the result is fetched from there; gone with the job",
}
COMMANDS = (
    ("list",),
    ("stats",),
    ("stats", "--money"),
    ("settings",),
    ("doctor",),
    ("owners",),
)


@dataclass
class Secrets:
    """Every secret of one deployment, by a name whose first word says what it is."""

    key: str = field(default_factory=lambda: canary("sk-good"))
    bad_key: str = field(default_factory=lambda: canary("sk-bad"))
    callback: str = field(default_factory=lambda: canary("sign"))
    # Nothing that a URL would have to escape: each client unescapes in its own way.
    database: str = field(default_factory=lambda: f"pgword{token_hex(12)}")
    broker: str = field(default_factory=lambda: f"mqword{token_hex(12)}")
    storage: str = field(default_factory=lambda: f"s3word{token_hex(12)}")
    source: str = field(default_factory=lambda: f"source{token_hex(12)}")
    parrot_link: str = field(default_factory=lambda: f"echo{token_hex(12)}")
    forged: str = field(default_factory=lambda: token_hex(30))


def with_password(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


@contextmanager
def guarded(server: PrivateServer, password: str) -> Iterator[str]:
    """The broker's URL for a user with a password, who is gone afterwards."""
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser("cutwork", True, passwords=f"+{password}", keys="*", channels="*",
                           categories=["+@all"])  # fmt: skip
    yield with_password(server.url, "cutwork", password)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.acl_deluser("cutwork")


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., bytes]]:
    """``command(environ, "list")``: what it prints, in this process."""

    def call(environ: Mapping[str, str], *words: str) -> bytes:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            current.cache_clear()
            capfd.readouterr()
            run(cutwork, list(words))
            return "".join(capfd.readouterr()).encode()

    yield call
    current.cache_clear()


def rows(place: Place) -> dict[str, bytes]:
    """The content of every column of every table."""
    told: dict[str, bytes] = {}
    with database.read_only(place.engine).connect() as tx:
        for table in schema.metadata.sorted_tables:
            found = tx.execute(select(table)).mappings().all()
            for column in table.columns:
                words = [json.dumps(row[column.name], default=str) for row in found]
                told[f"{table.name}.{column.name}"] = "\n".join(words).encode()
    return told


def messages(broker: PrivateServer) -> bytes:
    """Everything that was ever written to the broker: it keeps a journal."""
    return b"".join(path.read_bytes() for path in broker.directory.rglob("*.aof"))


def reports(place: Place) -> list[Any]:
    with database.read_only(place.engine).connect() as tx:
        return list(tx.execute(select(schema.attempt.c.report)).scalars())


def links(value: Any) -> Iterator[str]:
    """Every query of a link in what the provider said."""
    match value:
        case dict():
            for inner in value.values():
                yield from links(inner)
        case list():
            for inner in value:
                yield from links(inner)
        case str() if "signature=" in value:
            yield value.partition("signature=")[2]


def told(place: Place, parrot: Parrot, secrets: Secrets) -> dict[str, str]:
    """All secrets, those that were made on the way included."""
    named = {**vars(secrets)}
    tokens = {url.rpartition("/")[2] for url in parrot.callbacks}
    named |= {f"token {at}": token for at, token in enumerate(sorted(tokens))}
    signed = {query for report in reports(place) for query in links(report)}
    assert tokens
    assert signed
    return named | {f"link {at}": query for at, query in enumerate(sorted(signed))}


def enqueue(place: Place, parrot: Parrot, secret: str) -> None:
    place.enqueue(JOBS // 2)
    for at in range(JOBS // 2):
        url = f"{parrot.url}/source.png?n={at}&signature={secret}"
        place.enqueue(image_file=None, image_url=url)


def untold(place: Place, parrot: Parrot) -> list[str]:
    """The faults that have not taken their way yet."""
    ledger = place.sandbox.ledger()
    tasks = {task["ordinal"]: task for task in ledger["tasks"]}
    refused = {one["reason"] for one in ledger["refused"]}

    def downloads(ordinal: int) -> int:
        return sum(tasks[ordinal]["downloads"].values()) if ordinal in tasks else 0

    seen = {
        **{kind: parrot.repeated[kind] > 0 for kind in (*REPEATS, "key", "question")},
        **{reason: reason in refused for reason in ("error_500", "error_502_html")},
        **{f"task {at}": at in tasks for at in (0, 1, 2, 4, 5, 7, 8)},
        "check": 0 in tasks and tasks[0]["polls"]["count"] > 0,
        "dead link": downloads(1) >= 2,
        "half a file": downloads(7) >= 2,
        "failed jobs": place.count(State.FAILED) >= 2,
        "done jobs": place.count(State.SUCCEEDED) >= 5,
    }
    return [what for what, happened in seen.items() if not happened]


def wait_for_faults(place: Place, parrot: Parrot) -> None:
    try:
        run_until(lambda: not untold(place, parrot), 60)
    except AssertionError:
        raise AssertionError(f"has not happened: {untold(place, parrot)}") from None


def knock(place: Place, parrot: Parrot, secrets: Secrets) -> bytes:
    """The webhook's answers to a forger, to a flood, to a stranger, and about its health."""
    base = f"http://127.0.0.1:{place.port}"
    genuine = sorted(parrot.callbacks)[0]
    junk = json.dumps({"data": {"task_id": "another", "err_info": secrets.key}})
    answers = [
        requests.post(f"{base}/callbacks/{secrets.forged}", data=junk, timeout=10),
        requests.post(genuine, data="x" * 70_000, timeout=10),
        requests.post(genuine, data=junk, timeout=10),
        requests.put(genuine, data=junk, timeout=10),
        requests.post(f"{genuine}/further?key={secrets.key}", data=junk, timeout=10),
        *(
            requests.get(f"{base}{path}", timeout=10)
            for path in ("/healthz", "/readyz", "/metrics")
        ),
    ]
    assert [one.status_code for one in answers[:2]] == [404, 413]
    return b"\n".join(f"{one.status_code} {one.headers} {one.text}".encode() for one in answers)


def failed(job: Job) -> bool:
    """Whether an attempt has something to explain."""
    return any(one.state != "succeeded" for one in job.attempts)


def outputs(place: Place, command: Callable[..., bytes]) -> dict[str, bytes]:
    """What every command prints, for people and for programs."""
    jobs = {place.ids[0], place.ids[-1], *filter(lambda one: failed(place.job(one)), place.ids)}
    each = (*COMMANDS, *((name, str(one)) for one in jobs for name in ("show", "explain")))
    return {
        " ".join((*words, *option)): command(place.environ, *words, *option)
        for words in each
        for option in ((), ("--json",))
    }


def faults(place: Place, secrets: Secrets, command: Callable[..., bytes]) -> dict[str, bytes]:
    """What a person is told about settings and wishes that cannot be used."""
    bad = {
        "CUTWORK_DATABASE_URL": (
            f"postgresql+psycopg://u:{secrets.database}@127.0.0.1:1/x",
            f"postgresql://u:{secrets.database}@host:port/x",
            f"nothing://u:{secrets.database}@host/x",
        ),
        "CUTWORK_BROKER_URL": (
            f"redis://u:{secrets.broker}@127.0.0.1:1/0",
            f"sqs://u:{secrets.broker}@host",
            f"{secrets.broker}@host",
        ),
        "CUTWORK_STORAGE_URL": (
            f"s3://id:{secrets.storage}@127.0.0.1:1/shop",
            f"ftp://id:{secrets.storage}@host/shop",
        ),
        "CUTWORK_CALLBACK_SECRETS": (secrets.callback[:10],),
        "CUTWORK_API_TOKEN": (secrets.key,),
        "CUTWORK_API_TOKENS_FILE": (secrets.key,),
    }
    made = {}
    for name, values in bad.items():
        for at, value in enumerate(values):
            environ = {**place.environ, name: value}
            for word in ("stats", "doctor", "settings"):
                made[f"{word}, {name} {at}"] = command(environ, word)
            made[f"enqueue, {name} {at}"] = command(environ, "enqueue", __file__)
    for url in ("ftp://h/s?signature={}", "http://u:{}@h/s.png", "http://h:port/?q={}"):
        wish = url.format(secrets.source)
        made[f"enqueue {url}"] = command(place.environ, "enqueue", wish)
    return made


def lose_the_servers(
    place: Place, parrot: Parrot, database_server: PrivateServer, broker: PrivateServer
) -> None:
    """The broker and the database go away, and everybody says so."""
    broker.stop()
    database_server.stop()
    genuine = sorted(parrot.callbacks)[-1]
    body = {"data": {"task_id": "t", "state": 1, "err_info": genuine}}
    assert requests.post(genuine, json=body, timeout=15).status_code == 503
    run_until(lambda: "OperationalError" in place.role("reconciler").log, 15)
    run_until(lambda: "ConnectionError" in place.role("worker").log or
              "Connection" in place.role("worker").log, 15)  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_left_anywhere(
    form: str,
    private_postgresql: PrivateServer,
    private_redis: PrivateServer,
    processes: Processes,
    command: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    secrets = Secrets()
    database_url = with_password(private_postgresql.url, "postgres", secrets.database)
    with (
        guarded(private_redis, secrets.broker) as broker_url,
        Parrot({secrets.key}, picture(), secrets.parrot_link) as parrot,
        deployed(
            processes,
            tmp_path,
            database_url,
            broker_url,
            sandbox={"faults": FAULTS, "tokens": [secrets.key]},
            api_url=parrot.url,
            api_tokens=f"{secrets.key},{secrets.bad_key}",
            callback_secrets=secrets.callback,
            log_format=form,
            log_level="DEBUG",
            rate="8",
            check_after="1",
            uncertain_grace="1",
            breaker_failures="1000",
            guard_share="1",
            guard_count="1000",
        ) as place,
    ):
        parrot.provider = place.sandbox.url
        enqueue(place, parrot, secrets.source)
        place.open()
        wait_for_faults(place, parrot)
        places = {"webhook": knock(place, parrot, secrets)}
        places |= outputs(place, command)
        columns = rows(place)
        named = told(place, parrot, secrets)
        places |= faults(place, secrets, command)
        lose_the_servers(place, parrot, private_postgresql, private_redis)
        for word in ("stats", "doctor"):
            places[f"{word}, no servers"] = command(place.environ, word)
        private_postgresql.start()
        processes.close()
        places |= {f"log of {one.name}": one.log.encode() for one in place.roles}
        places["broker"] = messages(private_redis)
        check_captured(place, secrets, places, columns)
        kept = {(name, spot) for name, spot in leaks(named, columns)}
        found = leaks(named, places)
    assert {(name.split()[0], spot) for name, spot in kept} == set(BY_DESIGN), kept
    assert not found


def check_captured(
    place: Place, secrets: Secrets, places: dict[str, bytes], columns: dict[str, bytes]
) -> None:
    """What may be shown is found where it must be, so what may not be would be found too."""
    job = str(place.ids[0])
    key = key_id(secrets.key)
    both = places | columns
    seen = leaks({"job": job}, both)
    for spot in ("broker", "log of worker", f"show {job}", f"show {job} --json"):
        assert ("job", spot) in seen, f"no job in {spot}"
    for spot in ("list --json", "cutwork_job.id", "cutwork_attempt.job_id"):
        assert ("job", spot) in seen, f"no job in {spot}"
    for spot in ("stats", "stats --money", "doctor", "cutwork_gate.key_id"):
        assert key.encode() in both[spot], f"no key in {spot}"
    assert b"callback" in both["log of webhook"]
    # An ellipsis is where a secret was: it was said, and taken out.
    assert rb"\u2026" in columns["cutwork_attempt.detail"]
    assert rb"\u2026" in columns["cutwork_event.detail"]
    assert all(places.values()), [spot for spot, text in places.items() if not text]


@pytest.mark.parametrize("at", range(len(list(forms(canary("sk"))))))
def test_the_search_finds_every_form(at: int) -> None:
    secret = canary("sk")
    for before in ("", "a", "ab", "abc"):
        planted = f"{before} ".encode() + list(forms(secret))[at] + b" after"
        assert leaks({"key": secret}, {"log": planted, "other": b""}) == {("key", "log")}
