"""Where it is measured: the services' addresses, how thorough, and a database that is emptied."""

import os
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from cutwork import database
from cutwork.migrations.upgrade import upgrade

from .measuring import Unavailable

_PREFIX = "CUTWORK_BENCH_"


@dataclass(frozen=True)
class Place:
    """``quick`` asks for works that take seconds; ``full`` also for those that take minutes."""

    postgresql: str
    redis: str
    rabbitmq: str
    quick: bool

    @classmethod
    def here(cls, *, quick: bool) -> "Place":
        """What the environment names, or servers on this machine with their usual ports."""
        return cls(
            os.environ.get(
                f"{_PREFIX}POSTGRESQL_URL",
                "postgresql+psycopg://postgres@127.0.0.1/cutwork_bench",
            ),
            os.environ.get(f"{_PREFIX}REDIS_URL", "redis://127.0.0.1:6379/9"),
            os.environ.get(f"{_PREFIX}RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
            quick,
        )

    def fresh_database(self, suffix: str = "") -> str:
        """An empty PostgreSQL database of our own; a former one of this name is dropped.

        Raises:
            Unavailable: no PostgreSQL answers.
        """
        url = make_url(self.postgresql)
        url = url.set(database=f"{url.database}{suffix}")
        try:
            admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
            with admin.connect() as server:
                server.execute(text(f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)'))
                server.execute(text(f'CREATE DATABASE "{url.database}"'))
            admin.dispose()
        except Exception as error:
            raise Unavailable(f"no PostgreSQL: {type(error).__name__}") from error
        return url.render_as_string(hide_password=False)

    def drop_database(self, suffix: str = "") -> None:
        """Take a database of ours away: the large ones are not left lying."""
        url = make_url(self.postgresql)
        admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as server:
            server.execute(text(f'DROP DATABASE IF EXISTS "{url.database}{suffix}" WITH (FORCE)'))
        admin.dispose()

    def fresh_redis(self) -> str:
        """The address of a Redis database that was emptied.

        Raises:
            Unavailable: no Redis answers.
        """
        try:
            with Redis.from_url(self.redis) as server:
                server.flushdb()
        except RedisError as error:
            raise Unavailable(f"no Redis: {type(error).__name__}") from error
        return self.redis

    def fresh_engine(self, suffix: str = "", *, pool_size: int = 16) -> Engine:
        """The same, with our tables in it."""
        engine = database.engine(self.fresh_database(suffix), pool_size=pool_size)
        upgrade(engine)
        return engine
