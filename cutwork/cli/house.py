"""What runs on this machine, and with which settings: the plan of ``cutwork up`` and of the demo.

Without an API token the provider is the sandbox. What is made up here, the tokens of
the sandbox and the console and the callback secret, is kept in files under HOME, so that the jobs
of yesterday go on today.
"""

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from cutwork.cli.child import Role
from cutwork.cli.desk import shown_url
from cutwork.errors import InvalidSetting
from cutwork.settings import PREFIX, Settings, standard_secret

WEBHOOK_PORT, SANDBOX_PORT, CONSOLE_PORT = 8000, 8600, 8700
_PORTS_TRIED = 100
_NOTIFY_SECRET = "notify-secret"  # noqa: S105 - the name of its file
_NO_TOKENS = "CUTWORK_API_TOKENS is not set"


@dataclass(frozen=True)
class House:
    """The roles, the environment that all of them get, and the plan in words (what, where)."""

    roles: tuple[Role, ...]
    environ: Mapping[str, str]
    plan: tuple[tuple[str, str], ...]


def plan(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    bind: str = "",
    sandbox_port: int = SANDBOX_PORT,
    sandbox_options: tuple[str, ...] = (),
    console: bool = False,
) -> House:
    """Decide what runs where; writes the files of the secrets that it makes up.

    ``sandbox_port`` is the first to try; 0 takes any. Any is the console's when it is ``bind``'s.

    Raises:
        InvalidSetting: the settings contradict each other, or an address is taken.
    """
    _check(settings)
    chosen = _Environ(environ, settings.home.absolute())
    roles: list[Role] = []
    if settings.api_tokens:
        told = [("provider", settings.api_url)]
    else:
        address = f"127.0.0.1:{free_port('127.0.0.1', sandbox_port)}"
        roles.append(_sandbox(settings, chosen, address, sandbox_options))
        told = [("provider", f"the sandbox at http://{address}, without cost ({_NO_TOKENS})")]
    told.append(("callbacks", _add_webhook(settings, chosen, roles, bind)))
    roles += [Role("worker", ("worker",)), Role("reconciler", ("reconciler",))]
    told.append(("notices", _add_notices(settings, chosen)))
    if console:
        first = 0 if bind.endswith(":0") else CONSOLE_PORT
        told.append(("console", _add_console(settings, chosen, roles, first)))
    broker = settings.broker_url and shown_url(settings.broker_url)
    where = [
        ("database", shown_url(settings.database)),
        ("broker", broker or f"files in {settings.home.absolute() / 'broker'}"),
        ("pictures", settings.storage),
    ]
    return House(tuple(roles), chosen.values, (*where, *told))


class _Environ:
    """The children's environment: ours, and what is decided here."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self.values = dict(environ) | {f"{PREFIX}HOME": str(home)}
        self._home = home

    def set(self, name: str, value: str) -> None:
        self.values.pop(f"{PREFIX}{name}_FILE", None)
        self.values[f"{PREFIX}{name}"] = value

    def make_up(self, name: str, file: str, form: Callable[[bytes], str]) -> str:
        """Let a secret be what the file under HOME says; draw one the first time."""
        path = self._home / file
        if not path.exists():  # nobody else makes it: the lock of HOME is ours
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(form(secrets.token_bytes(32)) + "\n")
        self.values.pop(f"{PREFIX}{name}", None)
        self.values[f"{PREFIX}{name}_FILE"] = str(path)
        return path.read_text(encoding="ascii").strip()


def _sandbox(settings: Settings, chosen: _Environ, bind: str, options: tuple[str, ...]) -> Role:
    chosen.set("API_URL", f"http://{bind}")
    chosen.make_up("API_TOKENS", "sandbox-token", bytes.hex)
    rate = f"--rate={settings.rate:g}"
    return Role("sandbox", ("sandbox", "--bind", bind, rate, *options))


def _add_webhook(settings: Settings, chosen: _Environ, roles: list[Role], bind: str) -> str:
    sandboxed = bool(roles)
    if not (sandboxed or settings.public_url):
        return "none, the provider is asked instead (no CUTWORK_PUBLIC_URL)"
    bind = _bind(bind, fixed=bool(settings.public_url))
    if not settings.callback_secrets:
        chosen.make_up("CALLBACK_SECRETS", "callback-secret", bytes.hex)
    url = settings.public_url or f"http://{_reachable(bind)}"
    chosen.set("PUBLIC_URL", url)
    probe = f"http://{_reachable(bind)}/readyz"
    roles.append(Role("webhook", ("webhook", "--bind", bind), probe))
    return f"{url}, heard on {bind}"


def _add_notices(settings: Settings, chosen: _Environ) -> str:
    """A subscriber on this machine may be told, and can verify what it is told."""
    if not settings.notify_networks:
        chosen.set("NOTIFY_NETWORKS", "127.0.0.0/8,::1/128")
    if settings.notify_secrets:
        return "signed with CUTWORK_NOTIFY_SECRETS"
    chosen.make_up("NOTIFY_SECRETS", _NOTIFY_SECRET, standard_secret)
    return f"signed with the secret in {settings.home.absolute() / _NOTIFY_SECRET}"


def _add_console(settings: Settings, chosen: _Environ, roles: list[Role], first: int) -> str:
    if missing := [name for name in ("granian", "jinja2") if find_spec(name) is None]:
        return f"none, for want of {' and '.join(missing)}: pip install 'cutwork[console]'"
    bind = f"127.0.0.1:{free_port('127.0.0.1', first)}"
    roles.append(Role("console", ("console", "--bind", bind), f"http://{bind}/healthz"))
    if settings.console_token:
        return f"http://{bind}, for who has CUTWORK_CONSOLE_TOKEN"
    token = chosen.make_up("CONSOLE_TOKEN", "console-token", bytes.hex)
    return f"http://{bind}/?token={token}"


def _check(settings: Settings) -> None:
    if not settings.api_tokens and settings.api_url != Settings().api_url:
        rule, remedy = "must be set when CUTWORK_API_URL is", "unset that to use the sandbox"
        raise InvalidSetting(f"{PREFIX}API_TOKENS", "", rule, remedy)
    for name, url in (("BROKER_URL", settings.broker), ("STORAGE_URL", settings.storage)):
        if urlsplit(url).scheme == "memory":
            rule, remedy = "must be shared by several processes", "unset it to use files under HOME"
            raise InvalidSetting(f"{PREFIX}{name}", "memory://", rule, remedy)


def _bind(wanted: str, *, fixed: bool) -> str:
    """The webhook's address: as told, or the usual port, or the next free one.

    A public URL leads to one port, so another one would be of no use then.
    """
    if wanted:
        host, port = split_bind(wanted)
        if port:
            check_free(host, port)
            return wanted
        return f"{wanted.rpartition(':')[0]}:{free_port(host, 0)}"
    if fixed:
        check_free("127.0.0.1", WEBHOOK_PORT)
        return f"127.0.0.1:{WEBHOOK_PORT}"
    return f"127.0.0.1:{free_port('127.0.0.1', WEBHOOK_PORT)}"


def split_bind(bind: str) -> tuple[str, int]:
    """``HOST:PORT`` in two parts; no host means every address of this machine.

    Raises:
        InvalidSetting: it has another form.
    """
    host, colon, port = bind.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidSetting("--bind", bind, "must be HOST:PORT", "such as 127.0.0.1:8000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def check_free(host: str, port: int) -> None:
    """Raise InvalidSetting when somebody listens there, or the address is not ours.

    The webhook's server would share a port with another of its kind without a word.
    """
    try:
        _try_bind(host, port)
    except OSError as error:
        shown = f"{host}:{port}"
        rule = f"cannot be listened on ({error.strerror})"
        raise InvalidSetting("--bind", shown, rule, "choose another address") from None


def free_port(host: str, first: int) -> int:
    """``first`` or the next port that nobody uses; any that is free when ``first`` is 0."""
    for port in range(first, first + _PORTS_TRIED) if first else (0,):
        with suppress(OSError):
            return _try_bind(host, port)
    raise InvalidSetting(
        "--bind", f"{host}:{first}", f"is in use, and so are the next {_PORTS_TRIED} ports"
    )


def _try_bind(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As servers do: a port whose last connections are still closing counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return int(listener.getsockname()[1])


def _reachable(bind: str) -> str:
    """Where a process on this machine finds what is bound so."""
    host, port = split_bind(bind)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
