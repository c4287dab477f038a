"""What an app's author might get wrong; each line must be an error of the kind that it names."""

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import cutwork

URL = "https://shop.example/a.jpg"


def order(session: Session) -> None:
    cutwork.enqueue(session, image_url=URL, ownr="shop")  # wrong: call-arg
    cutwork.enqueue(session, image_url=5)  # wrong: arg-type
    cutwork.enqueue(session, image_file=5)  # wrong: arg-type
    cutwork.enqueue(session, image_url=URL, crop="yes")  # wrong: arg-type
    cutwork.enqueue(session, image_url=URL, priority="high")  # wrong: arg-type
    cutwork.enqueue(session, image_url=URL, not_before="tomorrow")  # wrong: arg-type
    cutwork.enqueue(session, URL)  # wrong: arg-type
    cutwork.enqueue(image_url=URL)  # wrong: call-arg
    cutwork.enqueue_many(session, [URL])  # wrong: list-item
    cutwork.enqueue_many(session, [], idempotency_keys=[7])  # wrong: list-item
    cutwork.get(session, 7)  # wrong: arg-type
    cutwork.enqueue_all(session)  # wrong: attr-defined
    cutwork.Segmentation(URL)  # wrong: call-arg
    cutwork.Segmentation(image_url=URL, colour="red")  # wrong: call-arg


def look(session: Session, engine: Engine, job: cutwork.Job) -> None:
    cutwork.wait(session, job.id)  # wrong: arg-type
    cutwork.wait_async(engine, job.id).state  # wrong: attr-defined
    job.state = cutwork.State.QUEUED  # wrong: misc
    job.image.upper()  # wrong: union-attr
    job.finished  # wrong: attr-defined


async def asynchronously(session: AsyncSession, engine: AsyncEngine, job: cutwork.Job) -> None:
    cutwork.enqueue(session, image_url=URL)  # wrong: arg-type
    await session.run_sync(cutwork.enqueue, image_url=URL, ownr="shop")  # wrong: call-arg
    await session.run_sync(cutwork.enqueue, image_url=5)  # wrong: arg-type
    cutwork.wait(engine, job.id)  # wrong: arg-type
    await cutwork.wait_async(session, job.id)  # wrong: arg-type
