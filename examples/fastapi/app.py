"""A picture shop on FastAPI: an order and its cut-out in one transaction; the page is told.

See README.md beside this file for the commands.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import UUID

from fastapi import FastAPI, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from fastapi.templating import Jinja2Templates
from sqlalchemy import String, func, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import cutwork

FREE_ORDERS = 2
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "mariadb": "mariadb+asyncmy",
    "mysql": "mysql+asyncmy",
}
PAGES = Jinja2Templates(Path(__file__).parent / "templates")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "studio_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(200))  # cutwork says what is too long
    article: Mapped[str] = mapped_column(String(200))
    job_id: Mapped[UUID | None]


async def place_order(
    session: AsyncSession, customer: str, article: str, picture: BinaryIO
) -> Order:
    order = Order(customer=customer, article=article)
    session.add(order)
    await session.flush()  # before this, order.id is None
    job = await session.run_sync(
        cutwork.enqueue,
        image_file=picture,
        owner=customer,
        idempotency_key=f"studio-order-{order.id}",
    )
    order.job_id = job.id
    # Whatever goes wrong from here on, in our code or at the commit, takes the job with it.
    theirs = select(func.count()).where(Order.customer == customer)
    if (await session.scalar(theirs) or 0) > FREE_ORDERS:
        raise HTTPException(403, f"{FREE_ORDERS} orders are free, and you have had them")
    return order


async def news(engine: AsyncEngine, job_id: UUID) -> AsyncIterator[str]:
    """Server-sent events: a comment now and then, so that nobody hangs up, and one event."""
    while True:
        try:
            job = await cutwork.wait_async(engine, job_id, timeout=15)
        except cutwork.StillWorking as still:
            yield f": {still.state}\n\n"
        else:
            yield f"event: over\ndata: {job.state}\n\n"
            return


def create_app() -> FastAPI:
    settings = cutwork.Settings.load(os.environ)
    url = make_url(settings.database)
    engine = create_async_engine(url.set(drivername=DRIVERS[url.get_backend_name()]))
    storage = cutwork.Storage.at(settings.storage)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as tx:
            await tx.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(title="Studio", lifespan=lifespan)

    @app.exception_handler(cutwork.InvalidInput)
    async def refuse(_request: Request, fault: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(fault)}, 400)

    @app.get("/")
    async def index(request: Request) -> Response:
        return PAGES.TemplateResponse(request, "index.html")

    @app.post("/orders")
    async def order(
        customer: Annotated[str, Form()], article: Annotated[str, Form()], picture: UploadFile
    ) -> RedirectResponse:
        async with AsyncSession(engine) as session, session.begin():
            number = (await place_order(session, customer, article, picture.file)).id
        return RedirectResponse(f"/orders/{number}", 303)

    @app.get("/orders/{number}")
    async def show(request: Request, number: int) -> Response:
        found, job = await look_up(number)
        return PAGES.TemplateResponse(request, "order.html", {"order": found, "job": job})

    @app.get("/orders/{number}/status")
    async def status(number: int) -> dict[str, Any]:
        _, job = await look_up(number)
        return {"state": job.state, "over": job.resting, "error": job.error}

    @app.get("/orders/{number}/events")
    async def events(number: int) -> StreamingResponse:
        _, job = await look_up(number)
        at_once = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(news(engine, job.id), 200, at_once, "text/event-stream")

    @app.get("/orders/{number}/picture")
    async def picture(number: int) -> Response:
        _, job = await look_up(number)
        if job.image is None:
            raise HTTPException(404, "there is no picture yet")
        data = await asyncio.to_thread(storage.get, job.image)
        return Response(data, media_type=f"image/{job.files['image'].format}")

    async def look_up(number: int) -> tuple[Order, cutwork.Job]:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            found = await session.get(Order, number)
            if found is None or found.job_id is None:
                raise HTTPException(404, "there is no such order")
            return found, await session.run_sync(cutwork.get, found.job_id)

    return app
