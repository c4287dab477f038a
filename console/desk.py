"""Who may see what, and which page an address is: the door first, then the rooms."""

import re
from collections.abc import Callable
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import Engine

from cutwork.errors import InvalidInput, JobNotFound
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.storage import Storage

from . import answering, deciding, rendering, troubles
from .answering import Answer, plain, see
from .asking import Asked
from .deciding import Outcome, PaysMore
from .door import Door
from .gallery import NAMES, SIZES, Gallery
from .pages import Pages

_JOB = re.compile(r"/jobs/([0-9a-fA-F-]{32,36})(?:/(\w+)(?:/(\w+))?)?")
_TOLD = re.compile(r"(retried|cancelled|paused|resumed)-(\d{1,6})-(\d{1,6})-(\d{1,6})")


class Desk:
    """Answers each request that can be read."""

    def __init__(self, engine: Engine, settings: Settings, *, read_only: bool) -> None:
        self._engine, self._settings, self._read_only = engine, settings, read_only
        self._door = Door(settings.console_token)
        self._pages = Pages(engine, settings)
        self._gallery = Gallery(Storage.at(settings.storage), settings.result_max_bytes)

    def answer(self, asked: Asked) -> Answer:
        """Any page, picture or decision; the login for who is not in."""
        if asked.method not in ("GET", "HEAD", "POST"):
            return plain(answering.NOT_ALLOWED, ("Allow", "GET, HEAD, POST"))
        if asked.path == "/login" or (asked.one("token") and asked.method != "POST"):
            return self._door.login(asked)
        if not self._door.knows(asked):
            return self._door.turn_away(asked)
        try:
            return self._post(asked) if asked.method == "POST" else self._get(asked)
        except JobNotFound:
            return self._nothing(asked)
        except InvalidInput as error:
            return self._page(asked, "fault.html", answering.BAD_REQUEST, text=f"{error}.")

    def fault(self, status: str, text: str) -> Answer:
        """A page that says what is wrong, whoever looks at it."""
        return Answer(status, rendering.render("plain.html", text=text, status=status[4:]))

    # --- what can be looked at -----------------------------------------------------------------

    def _get(self, asked: Asked) -> Answer:
        match asked.path:
            case "/":
                return self._page(asked, "overview.html", **self._pages.overview())
            case "/jobs":
                values = self._pages.jobs(asked)
                wrong = values["wanted"].faults
                status = answering.BAD_REQUEST if wrong else answering.OK
                return self._page(asked, "jobs.html", status, **values)
            case "/troubles":
                return self._page(asked, "troubles.html", **self._pages.troubles())
        return self._job(asked)

    def _job(self, asked: Asked) -> Answer:
        match = _JOB.fullmatch(asked.path)
        job_id = _uuid(match[1]) if match else None
        if match is None or job_id is None:
            return self._nothing(asked)
        if match[2] is None:
            values = self._pages.job(job_id, decides=not self._read_only)
            return self._page(asked, "job.html", **values)
        return self._picture(asked, job_id, match[2], match[3] or "")

    def _picture(self, asked: Asked, job_id: UUID, name: str, size: str) -> Answer:
        piece = self._pages.piece(job_id, name) if name in NAMES else None
        if piece is None:
            return plain(answering.NOT_FOUND)
        if size in SIZES:
            return self._gallery.small(piece, size, asked.etag)
        if size == "whole":
            named = f"{rendering.short(job_id)}-{name}"
            return self._gallery.whole(piece, named, asked.etag)
        return plain(answering.NOT_FOUND)

    # --- what can be decided -------------------------------------------------------------------

    def _post(self, asked: Asked) -> Answer:
        if not self._door.is_meant(asked):
            text = "This form is not of this session. Go back, load the page again, and repeat."
            return self._page(asked, "fault.html", answering.FORBIDDEN, text=text)
        if asked.path == "/logout":
            return self._door.logout(asked)
        if self._read_only:
            text = "This console is read-only: it shows everything and changes nothing."
            return self._page(asked, "fault.html", answering.FORBIDDEN, text=text)
        acts: dict[str, Callable[[Asked], Answer]] = {
            "/gates/pause": self._gates,
            "/gates/resume": self._gates,
            "/troubles/ask": self._ask,
            "/troubles/retry": self._decide,
            "/troubles/cancel": self._decide,
        }
        if asked.path in acts:
            return acts[asked.path](asked)
        match = _JOB.fullmatch(asked.path)
        job_id = _uuid(match[1]) if match else None
        if match is None or job_id is None or match[2] not in ("retry", "cancel") or match[3]:
            return self._nothing(asked)
        return self._act(asked, match[2], [job_id], f"/jobs/{job_id}")

    def _gates(self, asked: Asked) -> Answer:
        verb, told = {
            "/gates/pause": (deciding.pause, "paused"),
            "/gates/resume": (deciding.resume, "resumed"),
        }[asked.path]
        changed = verb(self._engine, asked.told("key") or None, self._settings)
        self._pages.forget_counts()
        return see(f"/?told={told}-{changed}-0-0")

    def _ask(self, asked: Asked) -> Answer:
        """Before many jobs are decided: which they are, and how many of them cost."""
        verb, state, code = asked.told("verb"), asked.told("state"), asked.told("code")
        if verb not in ("retry", "cancel") or state not in troubles.STATES or not code:
            return self._nothing(asked)
        found = self._pages.cause(State(state), code)
        return self._confirm(
            asked, verb, list(found.ids), state, code, more=found.older is not None
        )

    def _decide(self, asked: Asked) -> Answer:
        verb = asked.path.rpartition("/")[2]
        ids = [one for text in asked.form.get("job", []) if (one := _uuid(text))]
        if len(ids) > deciding.PAGE:
            return plain(answering.BAD_REQUEST)
        return self._act(asked, verb, ids, "/troubles")

    def _act(self, asked: Asked, verb: str, ids: list[UUID], back: str) -> Answer:
        if verb == "cancel":
            outcome = deciding.cancel(self._engine, ids)
            return self._told("cancelled", outcome, back)
        try:
            agreed = _number(asked.told("agreed"))
            outcome = deciding.retry(self._engine, ids, agreed, self._settings)
        except PaysMore:
            return self._confirm(
                asked, verb, ids, asked.told("state"), asked.told("code"),
                more=False, status=answering.CONFLICT,
            )  # fmt: skip
        return self._told("retried", outcome, back)

    def _confirm(
        self, asked: Asked, verb: str, ids: list[UUID], state: str, code: str,
        *, more: bool, status: str = answering.OK,
    ) -> Answer:  # fmt: skip
        foreseen = Outcome()
        if verb == "retry":
            foreseen = deciding.foresee(self._engine, ids, self._settings)
        return self._page(
            asked, "confirm.html", status, verb=verb, ids=ids, state=state, code=code, more=more,
            foreseen=foreseen, again=status == answering.CONFLICT,
        )  # fmt: skip

    def _told(self, what: str, outcome: Outcome, back: str) -> Answer:
        self._pages.forget_counts()
        first = outcome.paid if what == "retried" else outcome.cancelled
        query = urlencode({"told": f"{what}-{first}-{outcome.free}-{outcome.passed}"})
        return see(f"{back}?{query}")

    # --- how a page is made --------------------------------------------------------------------

    def _nothing(self, asked: Asked) -> Answer:
        text = "There is no such page, or no such job any more."
        return self._page(asked, "fault.html", answering.NOT_FOUND, text=text)

    def _page(
        self, asked: Asked, template: str, status: str = answering.OK, **values: object
    ) -> Answer:
        told = _TOLD.fullmatch(asked.one("told"))
        values |= {
            "place": asked.path,
            "read_only": self._read_only,
            "word": self._door.word(asked),
            "told": (told[1], *map(int, told.groups()[1:])) if told else None,
        }
        return Answer(status, rendering.render(template, **values))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
