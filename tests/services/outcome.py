"""What looking for a server gives: one that works, or the reason why there is none."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Missing:
    """No server of this kind can be had here."""

    reason: str


class Unusable(Exception):
    """A server was named by CUTWORK_TEST_..._URL and cannot be used: an error, not a skip."""


class Service(Protocol):
    """A server that the whole test session shares."""

    @property
    def label(self) -> str:
        """Name and version, as the last lines of the run show them."""

    def empty(self) -> str:
        """Remove whatever the last test left, and give the URL of an empty database or broker."""

    def close(self) -> None:
        """Remove everything that was created there, and stop what was started for it."""
