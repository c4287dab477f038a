"""Callbacks, sent for real: shaped, delayed, doubled or dropped as the task's mischief says."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import requests

from . import shapes
from .agenda import Agenda
from .tasks import Ledger, Task

TIMEOUT = (2.0, 5.0)
FIRST_RETRY = 0.2
REORDERED_AFTER = 0.05


@dataclass(frozen=True)
class Letter:
    """One callback to be sent, ``delay`` seconds after the one before it."""

    final: bool
    delay: float = 0.0


@dataclass(frozen=True)
class Envelope:
    """A letter as it goes on the wire."""

    method: str
    url: str
    body: bytes = b""
    content_type: str = ""


class Courier:
    """Sends letters from the agenda's threads; 2xx settles one, or ``retries`` more tries."""

    def __init__(self, ledger: Ledger, agenda: Agenda, retries: int) -> None:
        self._ledger, self._agenda, self._retries = ledger, agenda, retries

    def announce(self, task: Task) -> None:
        """Tell whoever asked that the task is finished."""
        mischief = task.mischief
        if not task.asked.callback_url or "lost_callback" in mischief:
            task.told.set()
            return
        letters = [Letter(True, mischief.values.get("delayed_callback", 0.0) + mischief.pause)]
        if "reordered_callback" in mischief:
            letters.append(Letter(False, REORDERED_AFTER))
        for _ in range(int(mischief.values.get("duplicate_callback", 1))):
            self._post(task, tuple(letters))

    def progress(self, task: Task, afterwards: Callable[[], None]) -> None:
        """Tell that the task is being worked on; ``afterwards`` runs once that is settled."""
        if not task.asked.callback_url:
            afterwards()
            return
        self._post(task, (Letter(False, task.mischief.pause),), afterwards)

    def _post(
        self, task: Task, letters: tuple[Letter, ...], afterwards: Callable[[], None] | None = None
    ) -> None:
        if letters:
            send = partial(self._send, task, letters, 0, afterwards)
            self._agenda.put(letters[0].delay, send)
        elif afterwards is not None:
            afterwards()

    def _send(
        self,
        task: Task,
        letters: tuple[Letter, ...],
        tries: int,
        afterwards: Callable[[], None] | None,
    ) -> None:
        if task.abandoned:
            return
        letter = letters[0]
        envelope = _envelope(task, letter, self._ledger.id_of(task.serial ^ 1))
        entry = _deliver(envelope)
        kind = "final" if letter.final else "progress"
        entry |= {"kind": kind, "try": tries, **_gist(task, letter)}
        self._ledger.called_back(task, entry)
        if not 200 <= entry["status"] < 300 and tries < self._retries:
            again = partial(self._send, task, letters, tries + 1, afterwards)
            self._agenda.put(FIRST_RETRY * 2**tries, again)
            return
        if letter.final:
            task.told.set()
        self._post(task, letters[1:], afterwards)


def _deliver(envelope: Envelope) -> dict[str, Any]:
    """One request on a connection of its own; status 0 when no answer came."""
    entry: dict[str, Any] = {
        "at": time.time(),
        "method": envelope.method,
        "content_type": envelope.content_type,
        "bytes": len(envelope.body),
        "status": 0,
        "error": "",
    }
    headers = {"User-Agent": "cutwork-sandbox"}
    if envelope.content_type:
        headers["Content-Type"] = envelope.content_type
    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.request(
                envelope.method,
                envelope.url,
                data=envelope.body or None,
                headers=headers,
                timeout=TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as reply:
                entry["status"] = reply.status_code
        except (requests.RequestException, UnicodeError, ValueError) as error:
            entry["error"] = type(error).__name__
    return entry


def _gist(task: Task, letter: Letter) -> dict[str, Any]:
    data = (shapes.told(task) if letter.final else shapes.ongoing(task))["data"]
    return {"state": int(data["state"]), "progress": int(data["progress"])}


def _envelope(task: Task, letter: Letter, other_id: str) -> Envelope:
    body = shapes.told(task) if letter.final else shapes.ongoing(task)
    data, url = body["data"], task.asked.callback_url
    match task.mischief.of("encoding"):
        case "form_callback":
            form = urlencode(_flat(body))
            return Envelope("POST", url, form.encode(), "application/x-www-form-urlencoded")
        case "get_callback":
            parts = urlsplit(url)
            query = "&".join(filter(None, (parts.query, urlencode(_flat(body)))))
            return Envelope("GET", urlunsplit(parts._replace(query=query)))
        case "bare_callback":
            return _json(url, data)
        case "garbage_callback":
            return Envelope("POST", url, b'\xff\xfe{"status": 200, "data": ', "application/json")
        case "wrong_task_id_callback":
            return _json(url, {**body, "data": {**data, "task_id": other_id}})
    return _json(url, body)


def _json(url: str, body: dict[str, Any]) -> Envelope:
    return Envelope("POST", url, json.dumps(body).encode(), "application/json")


def _flat(body: dict[str, Any]) -> dict[str, str]:
    flat = {"status": str(body["status"])}
    for name, value in body["data"].items():
        if isinstance(value, dict):
            flat[name] = json.dumps(value)
        else:
            flat[name] = "" if value is None else str(value)
    return flat
