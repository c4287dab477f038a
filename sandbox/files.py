"""Results behind signed links that expire, and the ways in which a download goes wrong."""

import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from .answers import Answer, Flood, Redirect, Reply, Trickle, Truncated
from .tasks import Ledger, Task

TYPES = {"png": "image/png", "jpg": "image/jpeg"}
DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
PAGE = b"<!DOCTYPE html><html><body><h1>Service temporarily unavailable</h1></body></html>"


@dataclass(frozen=True)
class File:
    """A stored result."""

    name: str
    path: Path
    task: Task
    expires: int


class Shelf:
    """Result files in a folder, each known by its name; a link lives ``ttl`` seconds."""

    def __init__(self, folder: Path, ttl: float, ledger: Ledger) -> None:
        self._folder, self._ttl, self._ledger = folder, ttl, ledger
        self._secret = secrets.token_bytes(32)
        self._files: dict[str, File] = {}
        self._lock = Lock()

    def put(self, task: Task, name: str, content: bytes) -> str:
        """Keep ``content`` and return its signed link, below the address the task was sent to."""
        file = File(name, self._folder / name, task, int(time.time() + self._ttl))
        file.path.write_bytes(content)
        with self._lock:
            self._files[name] = file
            dead = [old for old in self._files.values() if old.expires < time.time()]
            for old in dead:
                del self._files[old.name]
        for old in dead:
            old.path.unlink(missing_ok=True)
        signature = self._sign(name, str(file.expires))
        return f"{task.base_url}/files/{name}?expires={file.expires}&signature={signature}"

    def download(self, name: str, query: dict[str, str]) -> Answer:
        """Answer a GET of a link: 200, or 403 as an object store words it."""
        expires, signature = query.get("expires", ""), query.get("signature", "")
        if not hmac.compare_digest(self._sign(name, expires).encode(), signature.encode()):
            return _denied("SignatureDoesNotMatch", "The signature does not match.")
        if int(expires) <= time.time():
            return _denied("AccessDenied", "Request has expired.")
        with self._lock:
            file = self._files.get(name)
        if file is None:
            return _store_error(404, "NoSuchKey", "The specified key does not exist.")
        return self._answer(file, self._ledger.fetched(file.task, name))

    def elsewhere(self, name: str) -> Answer:
        """Answer a request that a redirect led to; the ledger counts it as a stray."""
        with self._lock:
            file = self._files.get(name)
        if file is None:
            return _store_error(404, "NoSuchKey", "The specified key does not exist.")
        self._ledger.strayed(file.task)
        return _whole(file)

    def reset(self) -> None:
        """Throw every file away."""
        with self._lock:
            files, self._files = self._files, {}
        for file in files.values():
            file.path.unlink(missing_ok=True)

    def _answer(self, file: File, count: int) -> Answer:
        mischief = file.task.mischief
        match mischief.of("result", count):
            case "result_expired":
                return _denied("AccessDenied", "Request has expired.")
            case "result_truncated":
                return Truncated(_whole(file))
            case "result_oversized":
                return Flood(int(mischief["result_oversized"]), announced=True)
            case "result_endless":
                return Flood(int(mischief["result_endless"]), announced=False)
            case "result_wrong_type":
                return Reply(200, PAGE, "text/html; charset=utf-8")
            case "result_wrong_size":
                return Reply(200, DOT, TYPES["png"])
            case "result_redirect":
                return Redirect(_other_host(file))
            case "result_slow":
                return Trickle(_whole(file), mischief["result_slow"])
        return Trickle(_whole(file), mischief.pause) if mischief.pause else _whole(file)

    def _sign(self, name: str, expires: str) -> str:
        return hmac.digest(self._secret, f"{name}\n{expires}".encode(), "sha256").hex()


def _whole(file: File) -> Reply:
    return Reply(200, file.path.read_bytes(), TYPES[file.name.rsplit(".", 1)[1]])


def _other_host(file: File) -> str:
    base = urlsplit(file.task.base_url)
    host = "127.0.0.1" if base.hostname == "localhost" else "localhost"
    return f"http://{host}:{base.port or 80}/_sandbox/elsewhere/{file.name}"


def _denied(code: str, message: str) -> Reply:
    return _store_error(403, code, message)


def _store_error(status: int, code: str, message: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}'
    return Reply(status, f"{body}</Message></Error>\n".encode(), "application/xml")
