"""What nearly every callback does, as one statement of PostgreSQL for all that came together.

A page reads, decides and writes. Here the conditions travel with the change, and the database says
whose rows met them; all others are for the verbs. A test holds both ways to the same rows.

Nobody but ``cutwork.ledger`` imports this module; CI checks that.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from cutwork import recordset
from cutwork.report import Report
from cutwork.request import OUTPUTS
from cutwork.rows import LONGEST_TRAIL, MOST
from cutwork.wake import CALL

# A first attempt is the only one: there is no other whose result would be a second charge.
_USUAL = f"""
    attempt.number = 1 AND attempt.state = 'accepted' AND attempt.callbacks < {MOST}
    AND coalesce(jsonb_array_length(attempt.trail), 0) < {LONGEST_TRAIL}
"""
# An attempt is asked twice: as the statement finds it, so that its job is left alone as well, and
# as it is when the job is locked. Only a race makes the two differ. They are not as many then, and
# the last row is an error, which undoes the statement; no second one has to be waited for.
_STATEMENT = text(
    f"""
    WITH given AS (
        SELECT CAST(json_array_elements_text(CAST(:each_job_id AS json)) AS uuid) AS job_id,
               json_array_elements_text(CAST(:each_task_id AS json)) AS task_id,
               json_array_elements_text(CAST(:each_suits AS json)) AS suits,
               json_array_elements_text(CAST(:each_told AS json)) AS told,
               CAST(json_array_elements(CAST(:each_report AS json)) AS jsonb) AS report
    ), moved AS (
        UPDATE cutwork_job AS job
           SET state = 'storing', lease = NULL, due_at = statement_timestamp(), tries = 0,
               result_attempt = 1,
               result_expires_at = statement_timestamp() + make_interval(secs => :result_ttl),
               decided_by = 'callback', error = NULL, error_code = NULL, finished_at = NULL
          FROM given, cutwork_attempt AS attempt
         WHERE job.id = given.job_id AND job.id = ANY (CAST(:those AS uuid[]))
           AND job.state = 'waiting' AND job.attempt = 1
           AND strpos(given.suits, job.request ->> 'output_type') > 0
           AND attempt.job_id = given.job_id AND attempt.job_id = ANY (CAST(:those AS uuid[]))
           AND attempt.task_id = given.task_id AND {_USUAL}
        RETURNING job.id, job.trace, given.task_id, given.told, given.report, {CALL}
    ), known AS (
        UPDATE cutwork_attempt AS attempt
           SET state = 'succeeded', decided_by = 'callback', report = moved.report,
               provider_state = CAST(moved.report ->> 'state' AS integer),
               seconds = CAST(moved.report ->> 'seconds' AS double precision),
               detail = coalesce(nullif(moved.report ->> 'detail', ''), attempt.detail),
               callbacks = attempt.callbacks + 1,
               trail = coalesce(attempt.trail, '[]') || jsonb_build_object(
                   'at', to_char(statement_timestamp() AT TIME ZONE 'UTC', :iso),
                   'what', 'callback',
                   'detail', moved.told
               ),
               accepted_at = coalesce(attempt.accepted_at, statement_timestamp()),
               heard_at = statement_timestamp(), finished_at = statement_timestamp()
          FROM moved
         WHERE attempt.job_id = moved.id AND attempt.job_id = ANY (CAST(:those AS uuid[]))
           AND attempt.task_id = moved.task_id AND {_USUAL}
        RETURNING attempt.job_id, attempt.key_id, moved.trace
    )
    SELECT job_id, key_id, trace, 0 AS fault
      FROM known
     UNION ALL
    SELECT NULL, NULL, NULL,
           CAST(CASE WHEN (SELECT count(*) FROM moved) <> (SELECT count(*) FROM known)
                     THEN 'an attempt went on while its job was being locked' ELSE '0' END
                AS integer)
    """  # noqa: S608 - constants of ours
)
# As the database's own isoformat() of a moment.
_ISO = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'


def complete(
    tx: Connection, reports: Mapping[UUID, tuple[Report, str]], result_ttl: float
) -> list[Row[Any]]:
    """waiting → storing, where the only attempt's task is done and brings what was asked for.

    ``reports`` has a report for each job, and what the trail is to say of it. Gives ``job_id``,
    ``key_id`` and ``trace`` of those that went on; nothing is changed of the others.

    Raises:
        DataError: an attempt went on while its job was being locked; nothing is written.
    """
    told = reports.values()
    given: dict[str, list[Any]] = {
        "job_id": (those := [job_id.hex for job_id in reports]),
        "task_id": [report.task_id for report, _ in told],
        "suits": [_suits(bool(report.image), bool(report.mask)) for report, _ in told],
        "told": [words for _, words in told],
        "report": [report.to_json() for report, _ in told],
    }
    own: dict[str, Any] = {"those": f"{{{','.join(those)}}}", "result_ttl": result_ttl, "iso": _ISO}
    *known, _ = tx.execute(_STATEMENT, {**recordset.dump(given), **own}).all()
    return known


@cache
def _suits(image: bool, mask: bool) -> str:
    """The output types for which such links are enough, a digit each."""
    links = {"image": image, "mask": mask}
    return "".join(str(kind) for kind, names in OUTPUTS.items() if all(map(links.get, names)))
