"""storing → succeeded: bring one result home before the provider's link dies."""

import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import UUID

from cutwork import bare, ledger, log, tracing
from cutwork.errors import FetchFailed, StorageError
from cutwork.fetching import Fetched, fetch
from cutwork.ledger import Ticket
from cutwork.report import Report
from cutwork.sources import shown

from .tools import Tools


def store(tools: Tools, job_id: UUID) -> None:
    """Claim, fetch each file, put it into our own storage, record what it is."""
    ticket = tools.claim(ledger.claim_store, job_id, tools.settings)
    if ticket is None or ticket.report is None:
        log.event("store is not ours", level=logging.DEBUG, job=job_id)
        return
    with tracing.step("cutwork.store", "CLIENT", ticket.trace, ticket.facts) as step:
        step.tell({"outcome": _store(tools, ticket, ticket.report)})


def _store(tools: Tools, ticket: Ticket, report: Report) -> str:
    """What came of it: ``stored``, ``overtaken``, or the code of a fault."""
    files: dict[str, dict[str, Any]] = {}
    outcome = "overtaken"
    try:
        for name in ticket.request.outputs:
            files[name] = _bring_home(tools, ticket, report, name)
    except FetchFailed as error:
        outcome = error.code
        _failed(tools, ticket, outcome, error, permanent=error.permanent)
    except (StorageError, OSError) as error:
        outcome = "storage"
        _failed(tools, ticket, outcome, error, permanent=False)
    else:
        result = {"files": files, "foreground_rect": report.foreground_rect}
        if tools.record(ticket.job_id, ledger.stored, ticket, result, tools.settings):
            log.event("stored", **ticket.facts)
            return "stored"
    for one in files.values():  # another worker's copy is the one that counts
        with suppress(StorageError):
            tools.storage.delete(one["uri"])
    return outcome


def _bring_home(tools: Tools, ticket: Ticket, report: Report, name: str) -> dict[str, Any]:
    link = {"image": report.image, "mask": report.mask}[name]
    got = fetch(link or "", settings=tools.settings, into=Path(gettempdir()))
    if fault := _size_fault(got, report, cropped=ticket.request.crop):
        raise FetchFailed(shown(link or ""), "wrong_size", fault, permanent=False)
    # What we keep and hand out tells nothing but the picture; size and hash are of that.
    stripped = bare.Stripped(got.data, got.format)
    # The fence is in the name, so that a slow worker cannot overwrite what the row describes.
    key = f"results/{ticket.job_id}/{name}-{ticket.fence}.{got.format}"
    uri = tools.storage.put(key, stripped)
    return {
        "uri": uri,
        "size": stripped.size,
        "sha256": stripped.sha256,
        "format": got.format,
        "width": got.width,
        "height": got.height,
    }


def _size_fault(got: Fetched, report: Report, *, cropped: bool) -> str:
    """How the picture differs from what the provider told of it; nothing, if it told nothing."""
    if not (report.image_width and report.image_height):
        return ""
    sizes = [(report.image_width, report.image_height)]
    # Whether the size is told before or after the cropping is nowhere documented.
    if cropped and (rect := report.foreground_rect):
        sizes.append((rect["width"], rect["height"]))
    # Nor is it for a photograph that lies on its side in its file.
    if sorted((got.width, got.height)) in [sorted(size) for size in sizes]:
        return ""
    spoken = " or ".join(f"{width}x{height}" for width, height in sizes)
    return f"it has {got.width}x{got.height} px, and the provider spoke of {spoken}"


def _failed(tools: Tools, ticket: Ticket, code: str, error: Exception, *, permanent: bool) -> None:
    verb = partial(ledger.not_stored, settings=tools.settings, permanent=permanent)
    tools.record(ticket.job_id, verb, ticket, code, str(error))
    log.event(
        "not stored",
        level=logging.WARNING,
        **ticket.facts,
        code=code,
        fault=error,
    )
