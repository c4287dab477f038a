"""Where tasks are worked on: fetch, open, cut, render, store, tell."""

import logging
import time
from functools import partial
from hashlib import sha256

import requests

from cutwork.bare import strip

from .agenda import Agenda
from .callbacks import Courier
from .engine import Engine
from .faults import chance
from .files import Shelf
from .limits import FETCH_SECONDS, MAX_BYTES
from .pictures import TOO_LARGE, Pixels, open_picture
from .render import MASK_ONLY, PICTURE_ONLY, render
from .tasks import DONE, PROCESSING, Ledger, Outcome, Task

log = logging.getLogger(__name__)

NOT_DOWNLOADED = -3
INTERNAL = -9
EMPTY = -11
CHUNK = 64 * 1024


class Workshop:
    """Cuts accepted tasks on the agenda's threads, each ``latency`` (from, to) seconds late."""

    def __init__(
        self,
        ledger: Ledger,
        agenda: Agenda,
        courier: Courier,
        shelf: Shelf,
        engine: Engine,
        *,
        latency: tuple[float, float],
        seed: int,
        stamp: bool,
    ) -> None:
        self._ledger, self._agenda, self._courier, self._shelf = ledger, agenda, courier, shelf
        self._engine, self._latency, self._seed, self._stamp = engine, latency, seed, stamp

    def take(self, task: Task) -> None:
        """Put a task in line."""
        least, most = self._latency
        delay = least + (most - least) * chance(self._seed, "latency", task.serial)
        later = partial(self._agenda.put, delay, partial(self._work, task))
        if "progress_callback" in task.mischief:
            self._ledger.advance(task, PROCESSING, 21)
            self._courier.progress(task, later)
        else:
            later()

    def _work(self, task: Task) -> None:
        if task.abandoned:
            return
        self._ledger.advance(task, PROCESSING, 21)
        if "stuck_at_4" in task.mischief:
            return
        try:
            outcome = self._outcome(task)
        except Exception:
            log.exception("the engine failed on task %s", task.id)
            outcome = Outcome(INTERNAL)
        self._ledger.finish(task, outcome)
        if not task.abandoned:
            self._courier.announce(task)

    def _outcome(self, task: Task) -> Outcome:
        if "task_failed" in task.mischief:
            return Outcome(int(task.mischief["task_failed"]))
        content = self._ledger.take_picture(task) or self._download(task)
        picture = open_picture(content) if isinstance(content, bytes) else content
        if isinstance(picture, int):
            return Outcome(picture)
        started = time.perf_counter()
        cut = self._engine.cut(picture, task.asked.kind)
        if task.abandoned or not cut.alpha.any():
            return Outcome(EMPTY)
        return self._publish(task, picture, cut.alpha, cut.kind, started)

    def _publish(
        self, task: Task, picture: Pixels, alpha: Pixels, kind: str, started: float
    ) -> Outcome:
        asked = task.asked
        made = render(picture, alpha, asked, self._marks(task))
        image = mask = ""
        if asked.output_type != MASK_ONLY:
            image = self._shelf.put(task, f"{task.id}-image.{asked.format}", made.image)
        if asked.output_type != PICTURE_ONLY:
            mask = self._shelf.put(task, f"{task.id}-mask.png", made.mask)
        spent = (time.perf_counter() - started) * 1000
        prints = {
            name: sha256(strip(data, form)).hexdigest()
            for name, data, form in (
                ("image", made.image, asked.format),
                ("mask", made.mask, "png"),
            )
            if data
        }
        rect, sides = made.rect, (made.width, made.height)
        return Outcome(DONE, kind, image, mask, rect, *sides, spent, prints)

    def _marks(self, task: Task) -> dict[str, str]:
        """What a file says of its origin, so that a test can tell whose picture it is."""
        if not self._stamp:
            return {}
        return {
            "cutwork-task": task.id,
            "cutwork-submit": str(task.serial),
            "cutwork-source": task.asked.source,
        }

    def _download(self, task: Task) -> bytes | int:
        """The picture behind image_url, or the state that says why not; 10 seconds in all."""
        started = time.monotonic()
        with requests.Session() as session:
            session.trust_env = False
            try:
                with session.get(task.asked.image_url, timeout=FETCH_SECONDS, stream=True) as reply:
                    reply.raise_for_status()
                    content = b""
                    for chunk in reply.iter_content(CHUNK):
                        content += chunk
                        if len(content) > MAX_BYTES:
                            return TOO_LARGE
                        if time.monotonic() - started > FETCH_SECONDS:
                            return NOT_DOWNLOADED
            except (requests.RequestException, UnicodeError, ValueError):
                return NOT_DOWNLOADED
        self._ledger.downloaded(task, (time.monotonic() - started) * 1000)
        return content
