"""Our own roles as real processes, with their limits opened so that nothing but work costs time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Engine, text

import cutwork
from cutwork import database
from cutwork.migrations.upgrade import upgrade

from .measuring import Unavailable
from .processes import HERE, Crew, Program, free_port

SECRET = "a-secret-of-the-bench-and-of-nobody-else"  # noqa: S105
# Threads of one worker: that many POSTs of 200 ms are a thousand in a second.
THREADS = 200
# Faults of a benchmark's own making must not stop it half way, and nobody counts money here.
_OPEN = {
    "CUTWORK_API_TOKENS": "a-key-of-the-bench",
    "CUTWORK_CALLBACK_SECRETS": SECRET,
    "CUTWORK_RATE": "100000",
    "CUTWORK_MAX_IN_FLIGHT": "1000000",
    "CUTWORK_SUBMIT_LANE": str(4 * THREADS),
    "CUTWORK_STORE_LANE": str(4 * THREADS),
    "CUTWORK_CHECK_AFTER": "600",
    "CUTWORK_CHECK_EARLIEST": "600",
    "CUTWORK_CHECK_LATEST": "600",
    "CUTWORK_CONCURRENCY": str(THREADS),
    "CUTWORK_PERMIT_TTL": "60",
    "CUTWORK_LOG_LEVEL": "WARNING",
}


@dataclass
class Ours:
    """Everything of ours that runs for one measurement."""

    engine: Engine
    environ: dict[str, str]
    port: int
    programs: list[Program] = field(default_factory=list)

    @classmethod
    def at(
        cls,
        database_url: str,
        home: str,
        api_url: str,
        broker: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> "Ours":
        """``broker`` empty: files below ``home``. ``settings`` go before the open ones."""
        port = free_port()
        environ = _OPEN | {
            "CUTWORK_HOME": home,
            "CUTWORK_DATABASE_URL": database_url,
            "CUTWORK_BROKER_URL": broker,
            "CUTWORK_API_URL": api_url,
            "CUTWORK_PUBLIC_URL": f"http://{HERE}:{port}",
        }
        engine = database.engine(database_url)
        upgrade(engine)
        return cls(engine, environ | dict(settings or {}), port)

    def start(self, crew: Crew, *, workers: int, webhook: bool = False) -> None:
        """Start a reconciler and so many workers, and return when all are ready."""
        leash = ["cutwork", "--leash", "{leash}"]
        for number in range(workers):
            words = [*leash, "worker", "--pool", "threads", "--hostname", f"worker{number}@%h"]
            self.programs.append(crew.start("our worker", words, self.environ))
        self.programs.append(crew.start("our reconciler", [*leash, "reconciler"], self.environ))
        if webhook:
            self.start_webhook(crew)
        crew.wait_ready()

    def start_webhook(self, crew: Crew) -> None:
        words = ["cutwork", "webhook", "--bind", f"{HERE}:{self.port}"]
        self.programs.append(crew.start("our webhook", words, self.environ, port=self.port))

    def enqueue(self, count: int, *, first: int = 0) -> Sequence[UUID]:
        """So many jobs in one transaction, with the sources from this number on."""
        numbers = range(first, first + count)
        wanted = [cutwork.Segmentation(image_url=source(number)) for number in numbers]
        with self.engine.begin() as tx:
            return cutwork.enqueue_many(tx, wanted)

    def wait_until_none(self, states: Sequence[str], seconds: float, every: float = 0.02) -> float:
        """Wait until no job is in one of these states; the monotonic time at which that was seen.

        Raises:
            Unavailable: they are not done in time; it says how many are left in which state.
        """
        listed = ", ".join(f"'{state}'" for state in states)
        left = text(f"SELECT 1 FROM cutwork_job WHERE state IN ({listed}) LIMIT 1")  # noqa: S608
        deadline = time.monotonic() + seconds
        with database.read_only(self.engine).connect() as tx:
            while tx.execute(left).scalar():
                if time.monotonic() > deadline:
                    counts = "SELECT state, count(*) FROM cutwork_job GROUP BY state"
                    found = dict(map(tuple, tx.execute(text(counts))))
                    raise Unavailable(f"not done in {seconds:g} s: {found}")
                time.sleep(every)
        return time.monotonic()


def source(number: int) -> str:
    """A picture's address, by which the stub can be asked when it came."""
    return f"http://pictures.example/{number}.jpg"
