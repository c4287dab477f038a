"""A PostgreSQL with a synchronous standby, to lose the one and promote the other."""

from collections.abc import Sequence
from pathlib import Path

from tests.services.ports import HOST
from tests.services.postgresql import PATTERNS, PrivatePostgreSQL, connect, find_program
from tests.services.waiting import run_until


class Primary(PrivatePostgreSQL):
    """Commits wait for the standby, so that none of them is lost with this server."""

    def command(self) -> Sequence[str | Path]:
        return [*super().command(), "-c", "synchronous_standby_names=*"]

    def follow(self) -> None:
        """Become a standby at the next start: one that only reads, and hears from nobody."""
        (self._data / "standby.signal").touch()


class Standby(PrivatePostgreSQL):
    def __init__(self, primary: Primary) -> None:
        super().__init__()
        self._primary = primary

    def prepare(self) -> None:
        program = find_program("pg_basebackup", *(one.format("pg_basebackup") for one in PATTERNS))
        self.run(
            program, "--pgdata", self._data, "--host", HOST, "--port", str(self._primary.port),
            "--username", "postgres", "--checkpoint=fast", "--write-recovery-conf", "--no-sync",
        )  # fmt: skip

    def promote(self) -> None:
        with connect(self._server) as connection:
            connection.execute("SELECT pg_promote(wait => false)")
            run_until(
                lambda: not connection.execute("SELECT pg_is_in_recovery()").fetchone()[0],
                60,
                "the standby is not promoted",
            )
