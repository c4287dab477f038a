"""An app that uses everything *cutwork* exports; checked by mypy, as its author would have it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import cutwork
import cutwork.django
from cutwork import (
    CutworkError,
    DatabaseNotReady,
    File,
    InputPurged,
    InvalidInput,
    InvalidSetting,
    Job,
    JobNotFound,
    KeyConflict,
    OwnerBusy,
    Purged,
    Segmentation,
    Settings,
    State,
    StillWorking,
    Storage,
    StorageError,
    Try,
    WrongState,
    cancel,
    enqueue,
    enqueue_many,
    erase_owner,
    get,
    retry,
    wait,
    wait_async,
)


def order(session: Session, tx: Connection, settings: Settings) -> None:
    assert_type(cutwork.enqueue(session, image_url="https://shop.example/a.jpg"), Job)
    assert_type(enqueue(tx, Segmentation(image_file=b"picture", crop=True)), Job)
    for file in ("a.jpg", Path("a.jpg"), b"picture", BytesIO(b"picture")):
        enqueue(tx, image_file=file)
    enqueue(
        session, image_url="https://shop.example/a.jpg", type="person", output_type=1, crop=True,
        format="jpg", bg_color="ffffff", idempotency_key="order-1", owner="shop", priority=2,
        not_before=datetime.now(UTC), meta={"order": 1}, on_uncertain="hold", max_paid_attempts=1,
        notify="shop.tasks.cut_done", settings=settings,
    )  # fmt: skip
    asked = (Segmentation(image_url=f"https://shop.example/{name}.jpg") for name in "ab")
    assert_type(enqueue_many(session, asked, idempotency_keys=["a", None]), list[UUID])
    enqueue(cutwork.django.connection(), image_url="https://shop.example/a.jpg")


def look(session: Session, tx: Connection, engine: Engine, job_id: UUID) -> None:
    job = assert_type(get(session, job_id), Job)
    assert_type(get(tx, str(job_id)), Job)
    assert_type(wait(engine, job.id, timeout=30), Job)
    assert_type(cancel(session, job_id), None)
    assert_type(retry(session, job_id), State)
    assert_type(job.state, State)
    assert_type(job.image, str | None)
    assert_type(job.mask, str | None)
    assert_type(job.image_width, int | None)
    assert_type(job.files, Mapping[str, File])
    assert_type(job.files["image"].size, int)
    assert_type(job.attempts, tuple[Try, ...])
    assert_type(job.finished_at, datetime | None)
    assert_type(job.resting, bool)
    assert_type(job.to_json(), dict[str, Any])


async def look_asynchronously(
    session: AsyncSession, connection: AsyncConnection, engine: AsyncEngine, plain: Engine
) -> None:
    job = await session.run_sync(enqueue, image_url="https://shop.example/a.jpg", owner="shop")
    assert_type(job, Job)
    assert_type(await connection.run_sync(get, job.id), Job)
    assert_type(await session.run_sync(retry, job.id), State)
    asked = [Segmentation(image_url="https://shop.example/a.jpg")]
    assert_type(await session.run_sync(enqueue_many, asked, priority=1), list[UUID])
    await session.run_sync(cancel, job.id)
    assert_type(await wait_async(engine, job.id, timeout=30), Job)
    assert_type(await wait_async(plain, job.id), Job)


def show(job: Job, environ: dict[str, str]) -> bytes:
    storage = Storage.at(Settings.load(environ).storage)
    assert_type(storage, Storage)
    return assert_type(storage.get(job.image or ""), bytes)


def forget(engine: Engine, storage: Storage) -> None:
    assert_type(erase_owner(engine, "shop", storage=storage, cancel=True, dry_run=True), Purged)


def explain(fault: CutworkError) -> list[Any]:
    match fault:
        case InvalidInput() | InvalidSetting():
            return [assert_type(fault.rule, str)]
        case KeyConflict():
            return [assert_type(fault.differs, list[str])]
        case StillWorking():
            return [assert_type(fault.seconds, float)]
        case WrongState():
            return [assert_type(fault.allowed, list[str])]
        case DatabaseNotReady():
            return [assert_type(fault.found, str | None)]
        case OwnerBusy():
            return [assert_type(fault.owner, str)]
        case JobNotFound() | InputPurged():
            return [fault.job_id]
        case StorageError():
            return [assert_type(fault.uri, str)]
    return []
