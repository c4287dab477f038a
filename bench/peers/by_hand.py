"""Celery, SQLAlchemy and Flask, as an experienced user puts them together in an afternoon.

A row for each picture, a task that posts it and keeps the task id, an endpoint that marks it done,
a task that fetches the result. It does what it should as long as nothing goes wrong.
"""

import os
import time
from datetime import datetime
from pathlib import Path

import requests
from celery import Celery
from flask import Flask, request
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from bench.ours import source
from bench.processes import HERE, Crew, Program, free_port, until
from bench.stub import Stub

from . import posting
from .celery import publish, words

_WORKER_THREADS = 200


class Base(DeclarativeBase):
    pass


class Picture(Base):
    __tablename__ = "picture"

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]
    status: Mapped[str] = mapped_column(default="new", index=True)
    task_id: Mapped[str | None] = mapped_column(index=True)
    result_url: Mapped[str | None]
    path: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


def _engine(url: str) -> Engine:
    return create_engine(url, pool_size=20, max_overflow=0)


app = Celery("by_hand", broker=os.environ.get("BENCH_BROKER"))
app.conf.update(task_ignore_result=True, task_default_queue="pictures")
web = Flask("by_hand")
if "BENCH_DATABASE" in os.environ:
    session_of = sessionmaker(_engine(os.environ["BENCH_DATABASE"]))


@app.task
def submit(picture_id: int) -> None:
    with session_of() as session:
        number = session.get_one(Picture, picture_id).id
    callback = os.environ.get("BENCH_CALLBACK")
    more = {"callback_url": f"{callback}/{picture_id}"} if callback else {}
    task_id = posting.post(number, **more)
    with session_of.begin() as session:
        picture = session.get_one(Picture, picture_id, with_for_update=True)
        picture.task_id = task_id
        if picture.status == "new":
            picture.status = "submitted"


@web.post("/callback/<int:picture_id>")
def callback(picture_id: int) -> str:
    said = request.get_json()["data"]
    with session_of.begin() as session:
        picture = session.get_one(Picture, picture_id, with_for_update=True)
        if said["state"] != 1 or picture.status not in ("new", "submitted"):
            return "ok"
        picture.status, picture.result_url = "done", said["image"]
    store.delay(picture_id)
    return "ok"


@app.task
def store(picture_id: int) -> None:
    with session_of() as session:
        url = session.get_one(Picture, picture_id).result_url
    reply = requests.get(url or "", timeout=60)
    reply.raise_for_status()
    path = Path(os.environ["BENCH_FOLDER"]) / f"{picture_id}.png"
    path.write_bytes(reply.content)
    with session_of.begin() as session:
        picture = session.get_one(Picture, picture_id)
        picture.status, picture.path, picture.finished_at = "stored", str(path), datetime.now()  # noqa: DTZ005


class ByHand:
    """What runs of it for one measurement."""

    def __init__(self, url: str, broker: str, stub: Stub, folder: str) -> None:
        self.engine, self._broker = _engine(url), broker
        Base.metadata.create_all(self.engine)
        self._port = free_port()
        self._environ = posting.environ(stub, broker, url) | {
            "BENCH_CALLBACK": f"http://{HERE}:{self._port}/callback",
            "BENCH_FOLDER": folder,
        }
        self.programs: list[Program] = []
        app.conf.broker_url = broker

    def start(self, crew: Crew, *, workers: int, web: bool = True) -> None:
        for number in range(workers):
            line = words("bench.peers.by_hand:app", number, threads=_WORKER_THREADS)
            self.programs.append(crew.start("celery by hand", line, self._environ))
        if web:
            line = ["gunicorn", "--worker-class=gthread", "--workers=2", "--threads=16"]
            line += ["--keep-alive=60", f"--bind={HERE}:{self._port}", "bench.peers.by_hand:web"]
            program = crew.start("flask by hand", line, self._environ, port=self._port)
            self.programs.append(program)

    def enqueue(self, count: int) -> list[int]:
        """Rows in one commit, then a message for each."""
        with Session(self.engine) as session:
            pictures = [Picture(url=source(number)) for number in range(count)]
            session.add_all(pictures)
            session.commit()
            ids = [picture.id for picture in pictures]
        publish(submit, ids, self._broker)
        return ids

    def wait_for(self, count: int, status: str, seconds: float, every: float = 0.02) -> float:
        """Wait until so many pictures have this status; the monotonic time when that was seen."""
        done = select(func.count()).where(Picture.status == status)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
            until(
                lambda: (tx.scalar(done) or 0) >= count, seconds, f"{count} {status}", every=every
            )
        return time.monotonic()
