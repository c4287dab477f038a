"""Who is in: a signed cookie that ends by itself, and a word for each form that only he knows.

The key comes from the console's token, so nothing is stored, and another token ends every session.
"""

import hmac
import secrets
from hashlib import sha256

from cutwork.errors import InvalidSetting
from cutwork.settings import Settings

from .asking import Asked

HOURS = 12
_VERSION = "1"


def ensure_token(settings: Settings) -> None:
    """Without a token there is no console.

    Raises:
        InvalidSetting: there is none.
    """
    if not settings.console_token:
        raise InvalidSetting(
            "CUTWORK_CONSOLE_TOKEN",
            "",
            "must be set for a console",
            "put 32 random characters there",
        )


class Sessions:
    """All methods are pure but for ``mint``, which draws a number. Times are Unix times."""

    def __init__(self, token: str) -> None:
        self._token = sha256(token.encode()).digest()
        self._key = hmac.digest(token.encode(), b"cutwork console, sessions", "sha256")
        # Cookies are not kept apart by port, and there may be a console on each of several.
        name = hmac.digest(self._key, b"name", "sha256").hex()[:8]
        self.cookie, self.visit = f"cutwork_{name}", f"cutwork_{name}_visit"

    def opens(self, token: str) -> bool:
        """Whether it is the token; takes as long whatever is wrong with it."""
        given = sha256(token.encode("utf-8", "replace")).digest()
        return hmac.compare_digest(given, self._token)

    def mint(self, now: float) -> str:
        words = f"{_VERSION}.{int(now) + HOURS * 3600}.{secrets.token_urlsafe(12)}"
        return f"{words}.{self._sign('session', words)}"

    def is_good(self, value: str, now: float) -> bool:
        """Whether we signed this cookie, and its time is not over."""
        words, _, signature = value.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", words).encode()):
            return False
        return int(words.split(".")[1]) > now

    def word(self, about: str) -> str:
        """What each form of this session (or visit) has to bring back."""
        return self._sign("form", about)

    def brings_word(self, asked: Asked, about: str) -> bool:
        given = asked.told("word").encode("utf-8", "replace")
        return bool(about) and hmac.compare_digest(given, self.word(about).encode())

    def _sign(self, purpose: str, words: str) -> str:
        return hmac.digest(self._key, f"{purpose}:{words}".encode(), "sha256").hex()


def comes_from_us(asked: Asked) -> bool:
    """Whether a POST was sent by one of our own pages, as far as the browser says.

    Our pages send no referrer, so a form's Origin is ``null``; then Sec-Fetch-Site says it, which
    browsers send to https and to this machine. Where neither is, the form's word alone decides.
    """
    if asked.site and asked.site != "same-origin":
        return False
    if asked.origin in (None, "null"):
        return True
    return asked.origin.lower().partition("://")[2] == asked.host


def cookie(name: str, value: str, *, secure: bool, seconds: int) -> tuple[str, str]:
    """A Set-Cookie header; 0 seconds take it away."""
    guard = "; Secure" if secure else ""
    rules = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{guard}"
    return "Set-Cookie", f"{name}={value}; {rules}"
