"""Puts a simulation's clock, chance, ids and downloads in front of the real modules, for a while.

The modules have no switch for it: their names are bound to something else, and bound back.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

from cutwork import database, intake, policy
from cutwork.webhook import app as webhook
from cutwork.worker import storing, submitting, tools

from .stand_ins import HostClock


@contextmanager
def disguised(
    clock: HostClock, chance: Random, fetch: Callable[..., Any], new_id: Callable[[], UUID]
) -> Iterator[None]:
    """Everything that real code would ask of its host comes from the seed."""
    faces: list[tuple[object, str, object]] = [
        (intake, "uuid7", new_id),
        (storing, "fetch", fetch),
        *((module, "time", clock) for module in (database, submitting, tools, webhook)),
        *((module, "random", chance) for module in (database, policy)),
    ]
    with ExitStack() as undo:
        for module, name, face in faces:
            undo.enter_context(patch.object(module, name, face))
        yield
