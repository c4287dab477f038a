"""Where a drill with real processes happens: the user's services, a provider of its own, players.

It talks to a sandbox only, and leaves alone whatever is not the drill's.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from PIL import Image
from sqlalchemy import Connection, func, select

from cutwork import database, jobs, schema
from cutwork.cli.house import free_port
from cutwork.errors import InvalidSetting
from cutwork.migrations.upgrade import upgrade
from cutwork.sandbox.server import Sandbox
from cutwork.settings import PREFIX, Settings
from cutwork.states import RESTING, State

from . import weather
from .troupe import Player

OWNER = "drill"
_KEPT = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL")


class Site:
    """``environ`` is what every role gets; ``players`` are all that were cast, running or not."""

    def __init__(
        self, environ: Mapping[str, str], chosen: Mapping[str, str], sandbox: Sandbox, home: Path
    ) -> None:
        self.sandbox, self.home = sandbox, home
        self.port = free_port("127.0.0.1", 0)
        self.environ = self._environment(environ, chosen)
        self.settings = Settings.load(self.environ)
        self.engine = database.engine(self.settings.database)
        self.players: list[Player] = []
        self.ids: list[UUID] = []

    def _environment(self, environ: Mapping[str, str], chosen: Mapping[str, str]) -> dict[str, str]:
        """The user's database, broker and storage; nothing else of what is set."""
        plain = {name: text for name, text in environ.items() if not name.startswith(PREFIX)}
        kept = {
            name: text
            for name, text in environ.items()
            if name.removeprefix(PREFIX).removesuffix("_FILE") in _KEPT
        }
        own = {
            "HOME": str(self.home),
            "API_URL": self.sandbox.url,
            "API_TOKENS": "drill-key",
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "CALLBACK_SECRETS": "a-secret-of-the-drill",
        }
        ours = {**chosen, **own}
        return plain | kept | {f"{PREFIX}{name}": text for name, text in ours.items()}

    def cast(self, name: str, role: str, *words: str) -> Player:
        """Somebody who may be started; a webhook listens where callbacks are sent to."""
        if role == "webhook":
            words = ("--bind", f"127.0.0.1:{self.port}", *words)
        player = Player(name, (role, *words), self.environ, self.home)
        self.players.append(player)
        return player

    def enqueue(self, tx: Connection, **options: Any) -> UUID:
        """One more job, with a picture of its own."""
        data = _picture(len(self.ids))
        job = jobs.enqueue(tx, image_file=data, owner=OWNER, settings=self.settings, **options)
        self.ids.append(job.id)
        return job.id

    def count(self, *states: State) -> int:
        """The drill's jobs in these states."""
        chosen = schema.job.c.state.in_([state.value for state in states])
        mine = select(func.count()).where(chosen, schema.job.c.owner == OWNER)
        with database.read_only(self.engine).connect() as tx:
            return int(tx.execute(mine.select_from(schema.job)).scalar_one())

    def refuse_strangers(self) -> None:
        """Raises InvalidSetting while the database holds unfinished jobs of others."""
        unfinished = schema.job.c.state.in_([state.value for state in set(State) - RESTING])
        others = select(func.count()).where(unfinished, schema.job.c.owner != OWNER)
        with database.read_only(self.engine).connect() as tx:
            found = tx.execute(others.select_from(schema.job)).scalar_one()
        if found:
            rule = f"holds {found} unfinished jobs that are not the drill's"
            remedy = "give the drill a database of its own"
            raise InvalidSetting(f"{PREFIX}DATABASE_URL", "(hidden)", rule, remedy)

    def close(self) -> None:
        for player in self.players:
            player.kill()
        self.engine.dispose()


@contextmanager
def opened(
    environ: Mapping[str, str], chosen: Mapping[str, str], **provider: Any
) -> Iterator[Site]:
    """A site with its tables; ``chosen`` are settings, ``provider`` is the sandbox's options.

    Raises:
        InvalidSetting: it could touch what is not its own.
    """
    refuse_paid_api(environ)
    with ExitStack() as undo:
        home = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="cutwork-drill-")))
        sandbox = undo.enter_context(Sandbox(engine=weather.Middle(), **provider))
        site = Site(environ, chosen, sandbox, home)
        undo.callback(site.close)
        upgrade(site.engine)
        site.refuse_strangers()
        yield site


def refuse_paid_api(environ: Mapping[str, str]) -> None:
    """The drill's provider is a sandbox of its own, always.

    Raises:
        InvalidSetting: CUTWORK_API_URL is set.
    """
    for name in (f"{PREFIX}API_URL", f"{PREFIX}API_URL_FILE"):
        if environ.get(name):
            rule = "must not be set: a drill never talks to a provider that is paid"
            raise InvalidSetting(name, environ[name], rule, "unset it")


def _picture(at: int) -> bytes:
    """One picture of its own for each job."""
    out = BytesIO()
    color = (at % 256, at // 256 % 256, 255 - at % 256)
    Image.new("RGB", (48, 32), color).save(out, "PNG")
    return out.getvalue()
