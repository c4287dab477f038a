"""What a browser does, without one: WSGI calls, checked for what WSGI demands, and cookies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from http.cookies import SimpleCookie
from io import BytesIO
from typing import Any
from urllib.parse import urlencode, urlsplit
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from cutwork.console.app import Console

TOKEN = "correct-horse-battery-staple"
HOST = "console.example"
_FORM = "application/x-www-form-urlencoded"
_WORD = re.compile(r'name="word" value="([0-9a-f]+)"')


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def words(self) -> str:
        """What a person reads: without tags, each run of blanks as one."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.text)).split())


class Client:
    """Cookies are kept and sent; ``word`` is that of the last page that had a form."""

    def __init__(self, console: Console) -> None:
        self._console, self._application = console, validator(console)
        self.cookies: dict[str, str] = {}
        self.word = ""

    def close(self) -> None:
        self._console.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, **headers)

    def post(self, path: str, form: Mapping[str, Any] | None = None, **headers: str) -> Reply:
        """A form with the word of the last page, unless it brings one."""
        values = {"word": self.word, **(form or {})}
        body = urlencode(values, doseq=True).encode()
        return self.send("POST", path, body, **{"Origin": f"http://{HOST}", **headers})

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        parts = urlsplit(path)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": parts.path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": parts.query,
            "HTTP_HOST": HOST,
            "REMOTE_ADDR": "192.0.2.1",
            "CONTENT_LENGTH": str(len(body)) if method == "POST" else "",
            "CONTENT_TYPE": "application/x-www-form-urlencoded"
            if method == "POST"
            else "text/plain",
            "wsgi.input": BytesIO(body),
        }
        setup_testing_defaults(environ)
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        for name, value in headers.items():
            variable = name.upper().replace("-", "_")
            plain = variable in ("CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_ADDR")
            environ[variable if plain else f"HTTP_{variable}"] = value
        told: list[Any] = []

        def start_response(status: str, given: list[tuple[str, str]], *_: Any) -> Any:
            told.extend((status, given))
            return lambda _: None

        pieces = self._application(environ, start_response)
        try:
            content = b"".join(pieces)
        finally:
            pieces.close()  # type: ignore[attr-defined]
        status, given = told
        self._keep([value for name, value in given if name == "Set-Cookie"])
        reply = Reply(int(status[:3]), {name.lower(): value for name, value in given}, content)
        if "html" in reply.headers.get("content-type", "") and (found := _WORD.search(reply.text)):
            self.word = found[1]
        return reply

    def log_in(self, token: str = TOKEN) -> Reply:
        self.get("/login")
        return self.post("/login", {"token": token})

    def _keep(self, given: list[str]) -> None:
        for line in given:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
