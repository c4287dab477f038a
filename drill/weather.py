"""The conditions of a drill with real processes: every fault on, every wait short."""

from typing import Any

import numpy as np

from cutwork.sandbox.engine import Cut

RATES = {
    "refuse_connection_reset": 0.01,
    "throttle": 0.01,
    "throttle_retry_after": 0.01,
    "error_500": 0.01,
    "error_502_html": 0.01,
    "error_520_text": 0.01,
    "client_error_as_500": 0.01,
    "bad_key": 0.003,
    "no_credit": 0.003,
    "no_credit_402": 0.003,
    "accept_then_reset": 0.03,
    "accept_then_timeout": 0.01,
    "reply_after_callback": 0.03,
    "done_at_once": 0.03,
    "task_failed": 0.05,
    "stuck_at_4": 0.01,
    "lost_callback": 0.12,
    "duplicate_callback": 0.1,
    "delayed_callback": 0.05,
    "reordered_callback": 0.05,
    "progress_callback": 0.05,
    "form_callback": 0.05,
    "bare_callback": 0.05,
    "get_callback": 0.05,
    "garbage_callback": 0.05,
    "wrong_task_id_callback": 0.02,
    "query_404": 0.05,
    "query_500": 0.05,
    "query_html": 0.05,
    "query_throttle": 0.03,
    "query_reset": 0.05,
    "result_expired": 0.03,
    "result_truncated": 0.03,
    "result_oversized": 0.01,
    "result_endless": 0.01,
    "result_wrong_type": 0.02,
    "result_redirect": 0.01,
    "result_slow": 0.02,
    "slow_everything": 0.02,
    "string_numbers": 0.1,
    "no_state_detail": 0.1,
}
VALUES = {
    "accept_then_timeout": 4,
    "reply_after_callback": 1.5,
    # Some callbacks come when the job is over: after the grace, the policy and all.
    "delayed_callback": 8,
    "result_oversized": 2 * 2**20,
    "result_endless": 2 * 2**20,
    "result_slow": 2,
    "slow_everything": 0.5,
}
# What chance might leave out of a small drill; submits are counted from 0.
SCHEDULE: dict[str, list[Any]] = {
    **{str(at): ["accept_then_reset", "delayed_callback"] for at in (5, 15, 25, 35)},
    **{str(at): ["accept_then_reset"] for at in (6, 16, 26, 36)},
    **{str(at): ["accept_then_reset", "lost_callback"] for at in (7, 17, 27, 37)},
    **{str(at): ["reply_after_callback"] for at in (8, 18)},
    **{str(at): ["throttle"] for at in (9, 19)},
    # In a row, so that some are of jobs that may not be paid for twice: held, and then heard of.
    **{str(at): ["accept_then_reset", "delayed_callback"] for at in range(20, 28)},
    **{str(at): ["duplicate_callback"] for at in (10, 11, 28, 29)},
    **{str(at): ["result_expired"] for at in (12, 13, 30, 31)},
}
MOST_PAID = 3
SHORT = {
    "SUBMIT_TIMEOUT": "2",
    "QUERY_TIMEOUT": "2",
    "RESULT_TIMEOUT": "3",
    "RESULT_MAX_BYTES": str(2**20),
    "PERMIT_TTL": "2",
    "UNCERTAIN_GRACE": "4",
    "CHECK_AFTER": "2",
    "CHECK_MAX_INTERVAL": "5",
    "WAIT_TIMEOUT": "30",
    "MAX_PAID_ATTEMPTS": str(MOST_PAID),
    "GUARD_WINDOW": "20",
    "BREAKER_FAILURES": "4",
    "BREAKER_PAUSE": "1",
    "BREAKER_LONGEST": "4",
    "BREAKER_RAMP": "2",
    "LEASE_MARGIN": "3",
    "CONCURRENCY": "8",
    "LOG_LEVEL": "DEBUG",
}


# The provider is down: every submit is answered 500.
DOWN = {"rates": {"error_500": 1.0}}


def plan(seed: int) -> dict[str, Any]:
    """What the sandbox is told."""
    return {"seed": seed, "rates": RATES, "values": VALUES, "schedule": SCHEDULE}


class Middle:
    """An engine that is quick, since the cut is not the point: the middle of the picture."""

    def cut(self, picture: Any, kind: str) -> Cut:
        alpha = np.zeros(picture.shape[:2], np.uint8)
        height, width = alpha.shape
        alpha[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
        return Cut(alpha, kind or "object")
