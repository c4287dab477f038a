"""Every error that cutwork raises, each with its facts.

CutworkError
├── InvalidInput            what an app or a user asked for cannot be asked of the provider
├── InvalidSetting          a CUTWORK_ variable has an unusable value
├── KeyConflict             an idempotency key was used again for another request
├── JobNotFound             no job has this id
├── InputPurged             a job cannot be sent again: its source picture was deleted
├── OwnerBusy               an owner cannot be erased: jobs are unfinished
├── WrongState              the job's state does not allow what was asked
├── StillWorking            wait() ran out of time; the job goes on
├── DatabaseNotReady        the tables are missing, old, or newer than this program
└── StorageError            a file could not be put into storage, or read from it
    └── FetchFailed         a result could not be fetched from the provider
"""

from typing import Any


class CutworkError(Exception):
    """The base: catch it to catch whatever cutwork raises on purpose."""

    # Python would call the class with the sentence alone when another process raises it again.
    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, vars(self))


class InvalidInput(CutworkError, ValueError):
    """A request that would fail, or cost money for nothing, at the provider."""

    def __init__(self, field: str, value: object, rule: str, remedy: str = "") -> None:
        self.field, self.value, self.rule, self.remedy = field, value, rule, remedy
        super().__init__(_sentence(f"{field} {rule}, got {_short(value)}", remedy))


class InvalidSetting(CutworkError, ValueError):
    """A setting that cannot be used. The value of a secret is never shown."""

    def __init__(self, name: str, value: object, rule: str, remedy: str = "") -> None:
        self.name, self.value, self.rule, self.remedy = name, value, rule, remedy
        super().__init__(_sentence(f"{name} {rule}, got {_short(value)}", remedy))


class KeyConflict(CutworkError):
    """The same idempotency key came with other parameters."""

    def __init__(self, key: str, owner: str, job_id: Any, differs: list[str]) -> None:
        self.key, self.owner, self.job_id, self.differs = key, owner, job_id, differs
        super().__init__(
            f"idempotency_key {key!r} belongs to job {job_id}, which asked for something else "
            f"(differs in: {', '.join(differs)}): use a new key for a new request"
        )


class JobNotFound(CutworkError, LookupError):
    """No such job; it may have been purged."""

    def __init__(self, job_id: Any) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id}: `cutwork list` shows those there are")


class WrongState(CutworkError):
    """The job exists, but not in a state that allows the verb."""

    def __init__(self, job_id: Any, state: str, verb: str, allowed: list[str]) -> None:
        self.job_id, self.state, self.verb, self.allowed = job_id, state, verb, allowed
        super().__init__(
            f"cannot {verb} job {job_id}: it is {state}, and only "
            f"{', '.join(allowed)} jobs can be {_participle(verb)}"
        )


class InputPurged(CutworkError):
    """The job cannot be sent again, because its source picture was deleted by policy."""

    def __init__(self, job_id: Any) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} cannot be sent again, its source picture was deleted "
            "(CUTWORK_KEEP_INPUTS): enqueue the picture anew"
        )


class OwnerBusy(CutworkError):
    """An owner's unfinished jobs would go on, and leave pictures behind."""

    def __init__(self, owner: str, job_ids: list[Any]) -> None:
        self.owner, self.job_ids = owner, job_ids
        named = ", ".join(map(str, job_ids[:3])) + (" …" if len(job_ids) > 3 else "")
        super().__init__(
            f"owner {owner!r} has {len(job_ids)} unfinished or held jobs ({named}): "
            "let them end, or cancel them first (--cancel)"
        )


class StillWorking(CutworkError, TimeoutError):
    """The time given to wait() is over and the job is not finished; nothing is lost."""

    def __init__(self, job_id: Any, state: str, seconds: float) -> None:
        self.job_id, self.state, self.seconds = job_id, state, seconds
        super().__init__(
            f"job {job_id} is still {state} after {seconds:g} s: it goes on; "
            f"`cutwork explain {job_id}` says what it waits for"
        )


class DatabaseNotReady(CutworkError):
    """The database answers, but its tables do not fit this program."""

    def __init__(self, found: str | None, wanted: str) -> None:
        self.found, self.wanted = found, wanted
        state = "has no cutwork tables" if found is None else f"is at revision {found}"
        super().__init__(
            f"the database {state}, this program needs {wanted}: run `cutwork db upgrade`"
        )


class StorageError(CutworkError):
    """Storage refused a read or a write."""

    def __init__(self, uri: str, reason: str, remedy: str = "") -> None:
        self.uri, self.reason, self.remedy = uri, reason, remedy
        super().__init__(_sentence(f"storage {uri}: {reason}", remedy))


class FetchFailed(StorageError):
    """A result link did not give the picture.

    ``code`` is stable and machine-readable: ``host_refused``, ``link_dead``, ``too_large``,
    ``too_slow``, ``wrong_type``, ``wrong_size``, ``truncated``, ``unreachable``.
    ``permanent`` says that asking the same link again cannot help.
    """

    def __init__(
        self, uri: str, code: str, reason: str, *, permanent: bool, remedy: str = ""
    ) -> None:
        self.code, self.permanent = code, permanent
        super().__init__(uri, reason, remedy)


def _again(kind: type[CutworkError], args: tuple[Any, ...], facts: dict[str, Any]) -> CutworkError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(facts)
    return error


def _sentence(fault: str, remedy: str) -> str:
    return f"{fault}: {remedy}" if remedy else fault


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _participle(verb: str) -> str:
    return {"cancel": "cancelled", "retry": "retried"}.get(verb, f"{verb}ed")
