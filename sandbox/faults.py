"""The faults there are, and those that befall one submit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

FAILURES = (-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -13, -14, -15, -16, -17)


@dataclass(frozen=True)
class Fault:
    """One kind of trouble; ``value`` is the default of its number, ``times`` of its repetitions."""

    stage: str
    doc: str
    value: float | None = None
    unit: str = ""
    times: int | None = None


CATALOGUE: Mapping[str, Fault] = {
    "refuse_connection_reset": Fault("refusal", "Reset before the body is read; not accepted."),
    "throttle": Fault("refusal", "429 without Retry-After."),
    "throttle_retry_after": Fault("refusal", "429 with Retry-After.", 2, "s"),
    "error_500": Fault("refusal", "500 with a JSON message; not accepted."),
    "error_502_html": Fault("refusal", "502 with a gateway's HTML page."),
    "error_520_text": Fault("refusal", "520 with a gateway's plain text."),
    "client_error_as_500": Fault("refusal", "500 that blames the client: image is required."),
    "bad_key": Fault("refusal", "401: the key is not valid."),
    "no_credit": Fault("refusal", "401: the key is valid, the account is empty."),
    "no_credit_402": Fault("refusal", "402: the account is empty."),
    "accept_then_reset": Fault("reply", "Accepted, then the connection is reset."),
    "accept_then_timeout": Fault("reply", "Accepted, then silence for so long.", 30, "s"),
    "reply_after_callback": Fault("reply", "The reply waits for the callback, so long.", 30, "s"),
    "done_at_once": Fault("reply", "Create returns the finished result."),
    "sync_pending": Fault("reply", "sync=1 returns only a task_id."),
    "task_failed": Fault("outcome", "Ends in this negative state (default: drawn).", None, "state"),
    "stuck_at_4": Fault("outcome", "Stays at state 4, 21 % for ever."),
    "lost_callback": Fault("delivery", "No callback is sent."),
    "duplicate_callback": Fault("delivery", "So many copies at the same moment.", 2, "copies"),
    "delayed_callback": Fault("delivery", "The callback comes so much later.", 3, "s"),
    "reordered_callback": Fault("delivery", "A progress callback after the final one."),
    "progress_callback": Fault("delivery", "A progress callback before the final one."),
    "form_callback": Fault("encoding", "POST, form-encoded."),
    "bare_callback": Fault("encoding", "JSON without the {status, data} wrapper."),
    "get_callback": Fault("encoding", "GET, the fields in the query."),
    "garbage_callback": Fault("encoding", "A body that is no JSON, and nothing else."),
    "wrong_task_id_callback": Fault("encoding", "The callback names another task; no other comes."),
    "query_404": Fault("query", "404 for a task that exists.", times=2),
    "query_500": Fault("query", "500 for a query.", times=2),
    "query_html": Fault("query", "502 with an HTML page for a query.", times=2),
    "query_throttle": Fault("query", "429 for a query.", times=2),
    "query_reset": Fault("query", "The connection of a query is reset.", times=2),
    "result_expired": Fault("result", "The link is dead: 403.", times=0),
    "result_truncated": Fault("result", "Half of the promised bytes come.", times=1),
    "result_oversized": Fault("result", "So many bytes, announced.", 80 * 2**20, "bytes", times=0),
    "result_endless": Fault("result", "So many bytes, unannounced.", 80 * 2**20, "bytes", times=0),
    "result_wrong_type": Fault("result", "An HTML page with status 200.", times=1),
    "result_wrong_size": Fault("result", "A picture of 1x1 px, whole and well.", times=1),
    "result_redirect": Fault("result", "302 to another host.", times=0),
    "result_slow": Fault("result", "The file takes so long.", 5, "s", times=1),
    "slow_everything": Fault("pace", "Every answer and callback takes so much longer.", 1, "s"),
    "string_numbers": Fault("numbers", "Numbers as strings, nulls, optional fields missing."),
    "no_state_detail": Fault("detail", "state_detail and err_info are missing."),
}


@dataclass(frozen=True)
class Mischief:
    """The faults of one submit, with their values and repetitions."""

    values: Mapping[str, float] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def of(self, stage: str, count: int = 0) -> str:
        """The fault of ``stage`` that befalls request number ``count`` (from 0), or ``""``."""
        for name in self.values:
            if CATALOGUE[name].stage == stage:
                times = self.repeats.get(name, CATALOGUE[name].times or 0)
                return name if times == 0 or count < times else ""
        return ""

    @property
    def pause(self) -> float:
        """Seconds that every answer about this submit takes longer."""
        return self.values.get("slow_everything", 0.0)


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on ``parts`` alone."""
    return int.from_bytes(digest(*parts)[:7]) / 2**56


def digest(*parts: object) -> bytes:
    """32 bytes that depend on ``parts`` alone."""
    return sha256(":".join(str(part) for part in parts).encode()).digest()
