"""The plain SQL of `examples/plain-sql`, with plain drivers and psql, through to the cut-out."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pymysql
import pytest
from sqlalchemy import make_url, select

import cutwork
from cutwork import schema
from cutwork.states import State
from tests.house import House

FILES = Path(__file__).parents[2] / "examples" / "plain-sql"
PHOTOGRAPHS = Path(__file__).parents[2] / "cutwork" / "cli" / "photographs"
# id, state, error_code, error, image, same_request
Row = tuple[Any, ...]
Run = Callable[[dict[str, str]], Row]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def photographs() -> Iterator[str]:
    """The address of a web server that has the sample photographs."""
    handler = partial(_Quiet, directory=str(PHOTOGRAPHS))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    with House(database_url, tmp_path) as made:
        yield made


def statements(name: str) -> tuple[str, str]:
    """The INSERT and the SELECT of a file."""
    lines = (FILES / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    insert, look, _ = "\n".join(line for line in lines if line[:2] != "--").split(";")
    return insert, look


def by_psycopg(url: str, values: dict[str, str]) -> Row:
    insert, look = (re.sub(r":'(\w+)'", r"%(\1)s", part) for part in statements("postgresql"))
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(insert, values)
        return connection.execute(look, values).fetchone() or ()


def by_pymysql(url: str, values: dict[str, str]) -> Row:
    parts = make_url(url)
    socket = parts.query.get("unix_socket")
    connection = pymysql.connect(
        host=parts.host, port=parts.port or 3306, unix_socket=socket, user=parts.username,
        password=parts.password or "", database=parts.database, charset="utf8mb4",
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute("SET @owner = %(owner)s, @key = %(key)s, @request = %(request)s", values)
        for statement in statements("mariadb"):
            cursor.execute(statement)
        connection.commit()
        return cursor.fetchone() or ()


def by_sqlite(url: str, values: dict[str, str]) -> Row:
    insert, look = statements("sqlite")
    given = {**values, "digest": sha256(values["request"].encode()).hexdigest()}
    connection = sqlite3.connect(make_url(url).database or "", timeout=30)
    with connection:
        connection.execute(insert, given)
        row: Row = connection.execute(look, given).fetchone()
    connection.close()
    return row


def by_psql(url: str, values: dict[str, str]) -> Row:
    psql = shutil.which("psql")
    assert psql, "the client programs of PostgreSQL must be installed"
    words = [word for pair in values.items() for word in ("-v", "=".join(pair))]
    told = subprocess.run(
        [psql, url.replace("+psycopg", ""), "-X", "-q", "-t", "-A", "-F", "\t", *words,
         "-f", FILES / "postgresql.sql"],
        capture_output=True, check=True, text=True, env={**os.environ, "ON_ERROR_STOP": "1"},
    ).stdout.rstrip("\n")  # fmt: skip
    *row, same = (field or None for field in told.split("\t"))
    return (*row, same == "t")


DRIVERS = {"postgresql": by_psycopg, "mysql": by_pymysql, "sqlite": by_sqlite}


@pytest.fixture
def run(house: House) -> Run:
    """Executes the file of this database with these values, and gives what it says."""
    return partial(DRIVERS[make_url(house.url).get_backend_name()], house.url)


def text_of(**request: Any) -> str:
    return json.dumps(request, separators=(",", ":"))


def told(row: Row) -> dict[str, Any]:
    names = ("id", "state", "error_code", "error", "image", "same_request")
    return {
        **dict(zip(names, row, strict=True)),
        "id": UUID(str(row[0])),
        "same_request": bool(row[5]),
    }


def test_a_row_becomes_a_cut_out(house: House, run: Run, photographs: str) -> None:
    request = text_of(image_url=f"{photographs}/coffee.png", type="object")
    values = {"owner": "shop", "key": "order-7", "request": request}

    first = told(run(values))
    assert (first["state"], first["image"], first["same_request"]) == ("queued", None, True)
    (job,) = house.settle(first["id"], seconds=30)
    then = told(run(values))

    assert job.state is State.SUCCEEDED, job.error
    assert then == {
        "id": first["id"], "state": "succeeded", "error_code": None, "error": None,
        "image": job.image, "same_request": True,
    }  # fmt: skip
    assert house.image(job).size == (600, 400)
    assert house.charges() == 1


def test_psql_alone_is_enough(
    empty_database: Callable[[str], str], tmp_path: Path, photographs: str
) -> None:
    with House(empty_database("postgresql"), tmp_path) as house:
        request = text_of(image_url=f"{photographs}/coffee.png")
        values = {"owner": "it's", "key": "order-7", "request": request}
        first = told(by_psql(house.url, values))
        (job,) = house.settle(first["id"], seconds=30)
        then = told(by_psql(house.url, values))

    assert job.owner == "it's"
    assert (then["state"], then["image"]) == ("succeeded", job.image)


@pytest.mark.parametrize(
    "request_",
    [
        {"image_url": "https://shop.example/shoe.jpg"},
        {"image_url": "https://shop.example/a?x='1'&y=%22", "type": "stamp"},
        {
            "bg_color": "ffcc00", "crop": True, "format": "jpg",
            "image_url": "https://shop.example/shoe.jpg", "output_type": 1, "type": "person",
        },
    ],
)  # fmt: skip
def test_a_key_is_the_same_from_sql_and_from_python(
    house: House, run: Run, request_: dict[str, Any]
) -> None:
    made = told(run({"owner": "shop", "key": "k", "request": text_of(**request_)}))
    same = house.enqueue(**request_, idempotency_key="k", owner="shop")
    assert same == made["id"]

    theirs = house.enqueue(**request_, idempotency_key="j", owner="shop")
    ours = told(run({"owner": "shop", "key": "j", "request": text_of(**request_)}))
    assert (ours["id"], ours["same_request"]) == (theirs, True)

    other = told(run({"owner": "shop", "key": "k", "request": text_of(image_url="http://a.b/c")}))
    assert (other["id"], other["same_request"]) == (made["id"], False)
    with pytest.raises(cutwork.KeyConflict):
        house.enqueue(image_url="http://a.b/c", idempotency_key="k", owner="shop")


def test_the_row_is_what_enqueue_writes_but_for_its_turn(house: House, run: Run) -> None:
    url = "https://shop.example/shoe.jpg"
    made = told(run({"owner": "shop", "key": "k", "request": text_of(image_url=url)}))
    usual = house.enqueue(image_url=url, idempotency_key="j", owner="shop")
    differ = {"id", "idempotency_key", "request", "turn", "created_at", "due_at"}

    with house.engine.connect() as tx:
        rows = {
            row.id: dict(row._mapping)
            for row in tx.execute(select(schema.job).order_by(schema.job.c.id))
        }
    ours, theirs = rows[made["id"]], rows[usual]

    assert [*rows] == [made["id"], usual], "ids sort by age"
    assert made["id"].version == 7
    assert {name for name in ours if ours[name] != theirs[name]} == differ
    assert ours["turn"] is None
    assert ours["due_at"] == ours["created_at"]
    assert 0 <= (theirs["created_at"] - ours["created_at"]).total_seconds() < 20
    assert cutwork.Segmentation(**ours["request"]) == cutwork.Segmentation(image_url=url)


def test_the_columns_of_the_readme_are_those_of_the_files() -> None:
    readme = (FILES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \|", readme.partition("## What is asked for")[0], re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    optional = {"meta", "notify", "on_uncertain", "max_paid_attempts"}

    for name in ("postgresql", "mariadb", "sqlite"):
        columns = re.search(r"INTO cutwork_job \((.+?)\)", statements(name)[0], re.DOTALL)
        assert columns
        assert set(re.findall(r"\w+", columns[1])) == explained - optional
    required = {
        column.name for column in schema.job.c if not column.nullable and not column.server_default
    }
    assert required <= explained
    assert optional <= {column.name for column in schema.job.c}


def test_a_row_that_asks_for_nonsense_is_held_unpaid_and_stops_no_other(
    house: House, run: Run, photographs: str
) -> None:
    nonsense = {
        '{"image_url":5}': "image_url",
        '{"picture":"x"}': "image_url",
        '{"image_url":"http://a.b/c","output_type":9}': "output_type",
        '{"image_url":"http://a.b/c","crop":"yes"}': "crop",
        '{"image_file":"/etc/passwd"}': "request",
        "[]": "image_url",
    }
    bad = {
        told(run({"owner": "shop", "key": request, "request": request}))["id"]: field
        for request, field in nonsense.items()
    }
    good = house.enqueue(image_url=f"{photographs}/coffee.png")

    *held, done = house.settle(*bad, good, seconds=30)

    assert done.state is State.SUCCEEDED
    assert house.charges() == 1
    for job in held:
        assert job.state is State.HELD
        assert job.error
        assert job.error["code"] == "input_unreadable"
        assert str(job.error["message"]).startswith(bad[job.id])
