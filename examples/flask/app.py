"""A picture shop on Flask: an order and its cut-out in one transaction; the page looks.

See README.md beside this file for the commands.
"""

import os
from typing import IO, Any
from uuid import UUID

from flask import Flask, Response, abort, redirect, render_template, request, url_for
from sqlalchemy import String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from werkzeug.wrappers import Response as Answer

import cutwork

FREE_ORDERS = 2


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "market_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(200))  # cutwork says what is too long
    article: Mapped[str] = mapped_column(String(200))
    job_id: Mapped[UUID | None]


def place_order(session: Session, customer: str, article: str, picture: IO[bytes]) -> Order:
    order = Order(customer=customer, article=article)
    session.add(order)
    session.flush()  # before this, order.id is None
    job = cutwork.enqueue(
        session,
        image_file=picture,
        owner=customer,
        idempotency_key=f"market-order-{order.id}",
    )
    order.job_id = job.id
    # Whatever goes wrong from here on, in our code or at the commit, takes the job with it.
    theirs = select(func.count()).where(Order.customer == customer)
    if (session.scalar(theirs) or 0) > FREE_ORDERS:
        abort(403, f"{FREE_ORDERS} orders are free, and you have had them")
    return order


def create_app() -> Flask:
    settings = cutwork.Settings.load(os.environ)
    engine = create_engine(settings.database)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    storage = cutwork.Storage.at(settings.storage)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024 * 1024

    @app.errorhandler(cutwork.InvalidInput)
    def refuse(fault: cutwork.InvalidInput) -> tuple[dict[str, str], int]:
        return {"detail": str(fault)}, 400

    @app.get("/")
    def index() -> str:
        return render_template("index.html")

    @app.post("/orders")
    def order() -> Answer:
        customer, article = request.form["customer"], request.form["article"]
        with sessions.begin() as session:
            placed = place_order(session, customer, article, request.files["picture"].stream)
            number = placed.id
        return redirect(url_for("show", number=number), 303)

    @app.get("/orders/<int:number>")
    def show(number: int) -> str:
        with sessions() as session:
            found, job = look_up(session, number)
            return render_template("order.html", order=found, job=job)

    @app.get("/orders/<int:number>/status")
    def status(number: int) -> dict[str, Any]:
        with sessions() as session:
            _, job = look_up(session, number)
        return {"state": job.state, "over": job.resting, "error": job.error}

    @app.get("/orders/<int:number>/picture")
    def picture(number: int) -> Response:
        with sessions() as session:
            _, job = look_up(session, number)
        if job.image is None:
            abort(404, "there is no picture yet")
        mimetype = f"image/{job.files['image'].format}"
        return Response(storage.get(job.image), mimetype=mimetype)

    def look_up(session: Session, number: int) -> tuple[Order, cutwork.Job]:
        found = session.get(Order, number)
        if found is None or found.job_id is None:
            abort(404, "there is no such order")
        return found, cutwork.get(session, found.job_id)

    return app
