"""A batch of callbacks written by hand: the ceiling of what a webhook can store.

Both statements know that every callback is the first about its attempt, in time, and about the
right task; there is no state machine, and no trail.
"""

import json
import threading
from queue import SimpleQueue
from uuid import UUID

from sqlalchemy import Engine, text

from cutwork.report import Report, Verdict

DONE = Report(Verdict.DONE, state=1, task_id="task", image="http://a.b/c.png?d", seconds=2.0)
LARGEST = 200


BY_HAND = (
    text(
        """
        UPDATE cutwork_attempt AS a
           SET state = 'succeeded', report = r.report, seconds = 2.0, provider_state = 1,
               callbacks = a.callbacks + 1, decided_by = 'callback',
               heard_at = statement_timestamp(), finished_at = statement_timestamp()
          FROM jsonb_to_recordset(:rows) AS r (id uuid, report jsonb)
         WHERE a.job_id = r.id AND a.number = 1 AND a.state = 'accepted'
        """
    ),
    text(
        """
        UPDATE cutwork_job AS j
           SET state = 'storing', lease = NULL, due_at = statement_timestamp(), tries = 0,
               result_attempt = 1, result_expires_at = statement_timestamp() + interval '1 hour',
               decided_by = 'callback', finished_at = NULL
          FROM jsonb_to_recordset(:rows) AS r (id uuid)
         WHERE j.id = r.id AND j.state = 'waiting' AND j.fence = 1
        """
    ),
)


class ByHand:
    """The ceiling: take what is queued, commit, repeat."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[tuple[UUID, threading.Event] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __call__(self, job_id: UUID) -> None:
        done = threading.Event()
        self._queue.put((job_id, done))
        done.wait()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < LARGEST and not self._queue.empty():
                if (one := self._queue.get()) is None:
                    self._queue.put(None)
                    break
                batch.append(one)
            rows = json.dumps(
                [{"id": str(job_id), "report": DONE.to_json()} for job_id, _ in batch]
            )
            with self._engine.begin() as tx:
                for statement in BY_HAND:
                    if tx.execute(statement, {"rows": rows}).rowcount != len(batch):
                        raise SystemExit("the ceiling did not change what it should")
            for _, done in batch:
                done.set()
