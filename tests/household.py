"""The house in which the docs are tried: a folder, all roles at work in it, a shop's table."""

import contextlib
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import cutwork
from cutwork import gate
from cutwork.settings import Settings


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str]


@dataclass
class House:
    """A folder with a photograph, all roles at work in it, and where they and it are."""

    folder: Path
    sandbox: str
    webhook: str
    photograph: str
    said: str
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def for_roles(self) -> dict[str, str]:
        """What ``cutwork up`` gives to its children, for roles that a page starts itself."""
        home = self.folder / ".cutwork"
        return self.environ | {
            "CUTWORK_API_URL": self.sandbox,
            "CUTWORK_API_TOKENS_FILE": str(home / "sandbox-token"),
            "CUTWORK_PUBLIC_URL": self.webhook,
            "CUTWORK_CALLBACK_SECRETS_FILE": str(home / "callback-secret"),
        }

    @contextlib.contextmanager
    def database(self) -> Any:
        """An engine for a moment."""
        engine = create_engine(f"sqlite:///{self.folder / '.cutwork' / 'cutwork.db'}")
        try:
            yield engine
        finally:
            engine.dispose()

    def keys(self) -> list[str]:
        with self.database() as engine, engine.connect() as tx:
            return [one.key_id for one in gate.read(tx)]

    def reset(self) -> None:
        """No faults, and every gate open."""
        told = urllib.request.Request(f"{self.sandbox}/_sandbox/faults", data=b"{}")
        urllib.request.urlopen(told, timeout=5).close()
        keys = self.keys()
        with self.database() as engine, engine.begin() as tx:
            for key in keys:
                gate.resume(tx, key)

    def job(self, verb: str) -> str:
        """The id of a job that the verb can be said of."""
        settings = Settings(home=self.folder / ".cutwork")
        with self.database() as engine, engine.begin() as tx:
            later = datetime.now(UTC) + timedelta(days=1)
            url = "https://shop.example/shoe.jpg"
            job = cutwork.enqueue(tx, image_url=url, not_before=later, settings=settings)
            if verb == "retry":
                cutwork.cancel(tx, job.id)
        return str(job.id)
