"""What came back from the provider, read whole or given up, before it is known what it means."""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from requests import RequestException, Response
from urllib3.exceptions import HTTPError

from cutwork.reading import parse, plain, whole

MAX_REPLY = 1024 * 1024
MAX_RETRY_AFTER = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """``text`` is what it says to a person, or why it could not be read.

    ``http_status`` is None when no answer came; ``retry_after`` is in seconds; ``date`` is the
    server's clock, as it says.
    """

    http_status: int | None
    payload: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    retry_after: float | None = None
    date: datetime | None = None

    @classmethod
    def read(cls, response: Response, hide: Sequence[str]) -> "Reply":
        """Read a streamed response, however it ends; its text repeats none of ``hide``."""
        body, flaw = bytearray(), ""
        try:
            for chunk in response.iter_content(16 * 1024):
                body += chunk
                if len(body) > MAX_REPLY:
                    flaw = f"the reply is longer than {MAX_REPLY} bytes"
                    break
        except (RequestException, HTTPError, OSError, ValueError) as error:
            flaw = why(error)
        decoded = None if flaw else parse(bytes(body))
        payload = decoded if isinstance(decoded, dict) else {}
        told = flaw or _message(payload) or _visible(bytes(body))
        text = plain(told, hide=hide) or "an empty reply"
        date = _moment(response.headers.get("Date", ""))
        return cls(response.status_code, payload, text, _retry_after(response.headers), date)

    @property
    def status(self) -> int:
        """The number that counts: an error in the body outranks the gateway's HTTP status."""
        inner = self._error
        told = (self.payload.get("status"), self.payload.get("code"))
        numbers = (whole(number) for number in (*told, inner.get("status"), inner.get("code")))
        errors = (number for number in numbers if number is not None and 400 <= number <= 599)
        return next(errors, self.http_status or 0)

    @property
    def words(self) -> set[str]:
        """The error's names for itself, small letters only: "Rate_Limit" is ``ratelimit``."""
        inner = self._error
        told = (self.payload.get("code"), inner.get("code"), inner.get("type"))
        return {re.sub(r"[^a-z]", "", word.lower()) for word in told if isinstance(word, str)}

    @property
    def fine(self) -> bool:
        return 200 <= (self.http_status or 0) < 300

    @property
    def reason(self) -> str:
        if self.http_status is None:
            return self.text
        inside = f", {self.status} inside" if self.status != self.http_status else ""
        return f"HTTP {self.http_status}{inside}: {self.text}"

    @property
    def _error(self) -> Mapping[str, Any]:
        error = self.payload.get("error")
        return error if isinstance(error, dict) else {}


def why(error: BaseException) -> str:
    """The first cause of a failure, without the addresses that its wrappers repeat."""
    root: BaseException = error
    while inner := _inner(root):
        root = inner
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"TLS: {root.verify_message}"
    text = getattr(root, "strerror", None) or str(root)
    return f"{type(root).__name__}: {text}"


def _inner(error: BaseException) -> BaseException | None:
    held = (*error.args, getattr(error, "reason", None), error.__cause__)
    return next((each for each in held if isinstance(each, BaseException)), None)


def _message(payload: Mapping[str, Any]) -> str:
    error = payload.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    told = (payload.get("message"), inner, payload.get("msg"))
    return next((text for text in told if isinstance(text, str) and text.strip()), "")


def _visible(body: bytes) -> str:
    """What a person would read of a gateway's page."""
    return re.sub(r"<[^<>]*>", " ", body[:4000].decode("utf-8", "replace"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return min(float(text), MAX_RETRY_AFTER)
    then = _moment(text)
    if then is None:
        return None
    now = _moment(headers.get("Date", "")) or datetime.now(UTC)
    return min(max((then - now).total_seconds(), 0.0), MAX_RETRY_AFTER)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
