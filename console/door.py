"""The door: who brings the token gets a session, who fails too often waits."""

import logging
import secrets
import time
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from cutwork import log

from . import answering, rendering
from .answering import Answer, plain, see
from .asking import Asked
from .patience import Patience
from .session import HOURS, Sessions, comes_from_us, cookie


class Door:
    """One for each process; sessions are in their cookies, failures in memory."""

    def __init__(self, token: str) -> None:
        self._sessions, self._patience = Sessions(token), Patience()

    def knows(self, asked: Asked) -> bool:
        """Whether the request is of a session that is not over."""
        return self._sessions.is_good(self._session(asked), time.time())

    def word(self, asked: Asked) -> str:
        """What the forms of this session's pages carry."""
        return self._sessions.word(self._session(asked))

    def is_meant(self, asked: Asked) -> bool:
        """Whether a POST comes from a form of this very session."""
        return comes_from_us(asked) and self._sessions.brings_word(asked, self._session(asked))

    def turn_away(self, asked: Asked) -> Answer:
        """A page leads to the login and back, anything else to nothing."""
        if asked.htmx:  # it would put the login into the middle of a page
            return plain(answering.FORBIDDEN, ("HX-Redirect", "/login"))
        if asked.method == "POST" or asked.path.count("/") > 2:
            return plain(answering.FORBIDDEN)
        place = asked.path + (f"?{_again(asked)}" if asked.query else "")
        return see("/login" if place == "/" else f"/login?{urlencode({'next': place})}")

    def login(self, asked: Asked) -> Answer:
        """The form; what it brings; or a link that has the token in it, which is taken out."""
        if asked.method == "POST":
            visit = asked.cookies.get(self._sessions.visit, "")
            if not (comes_from_us(asked) and self._sessions.brings_word(asked, visit)):
                return self._form(asked, answering.FORBIDDEN, "Please try again: the form was old.")
            return self._try(asked, asked.told("token"), _local(asked.told("next")))
        if token := asked.one("token"):
            return self._try(asked, token, _local(f"{asked.path}?{_again(asked)}"))
        if self.knows(asked):
            return see("/")
        return self._form(asked)

    def logout(self, asked: Asked) -> Answer:
        return see("/login", cookie(self._sessions.cookie, "", secure=asked.secure, seconds=0))

    def _try(self, asked: Asked, token: str, place: str) -> Answer:
        wait = self._patience.wait(asked.address)
        if wait:
            text = f"Too many tries: wait {wait} seconds."
            return self._form(asked, answering.TOO_MANY, text, ("Retry-After", str(wait)))
        if not self._sessions.opens(token):
            self._patience.failed(asked.address)
            log.event("login failed", level=logging.WARNING, address=asked.address)
            return self._form(asked, answering.FORBIDDEN, "That is not the token.")
        log.event("login", address=asked.address)
        session = self._sessions.mint(time.time())
        given = cookie(self._sessions.cookie, session, secure=asked.secure, seconds=HOURS * 3600)
        return see(place, given)

    def _form(
        self, asked: Asked, status: str = answering.OK, fault: str = "", *extra: tuple[str, str]
    ) -> Answer:
        visit = secrets.token_urlsafe(12)
        given = cookie(self._sessions.visit, visit, secure=asked.secure, seconds=3600)
        place = _local(asked.told("next") or asked.one("next"))
        page = rendering.render(
            "login.html", fault=fault, next=place, word=self._sessions.word(visit)
        )
        return Answer(status, page, extra=(given, *extra))

    def _session(self, asked: Asked) -> str:
        return asked.cookies.get(self._sessions.cookie, "")


def _again(asked: Asked) -> str:
    """The query without the token."""
    return urlencode(
        [(name, one) for name, many in asked.query.items() if name != "token" for one in many]
    )


def _local(place: str) -> str:
    """A page of ours to go to after the login; never another site's."""
    parts = urlsplit(place)
    pages = ("/", "/jobs", "/troubles")
    if parts.scheme or parts.netloc or not (parts.path in pages or parts.path.startswith("/jobs/")):
        return "/"
    kept = [(name, one) for name, many in parse_qs(parts.query).items() for one in many]
    return quote(parts.path) + (f"?{urlencode(kept)}" if kept else "")
