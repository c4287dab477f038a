"""An order and the cut-out of its picture, written in one transaction: either both or neither.

In one terminal: ``cutwork up``. In another, in the same directory:

    python examples/order.py photo.jpg
"""

import os
import sys

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import cutwork


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str]


def place_order(session: Session, article: str, picture: str) -> cutwork.Job:
    order = Order(article=article)
    session.add(order)
    session.flush()  # before this, order.id is None
    return cutwork.enqueue(session, image_file=picture, idempotency_key=f"order-{order.id}")


def main(picture: str) -> None:
    engine = create_engine(cutwork.Settings.load(os.environ).database)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        job = place_order(session, "a shoe", picture)
    done = cutwork.wait(engine, job.id, timeout=60)
    print(done.state, done.image or done.error)  # noqa: T201 - all that a script has to say
    engine.dispose()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: order.py PICTURE")
    main(sys.argv[1])
