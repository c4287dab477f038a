"""Where a process may be killed: each side of each commit and of each exchange over HTTP."""

from collections.abc import Mapping

# Point → the role in which it lies. ``sent`` is when every byte is with the kernel and nothing of
# the reply was read; ``hear:after-commit`` when the callback is durable and not yet answered.
POINTS: Mapping[str, str] = {
    "claim:before-commit": "worker",
    "claim:after-commit": "worker",
    "post:before": "worker",
    "post:sent": "worker",
    "post:after": "worker",
    "record:before-commit": "worker",
    "record:after-commit": "worker",
    "claim-check:before-commit": "worker",
    "claim-check:after-commit": "worker",
    "query:before": "worker",
    "query:sent": "worker",
    "query:after": "worker",
    "record-check:before-commit": "worker",
    "record-check:after-commit": "worker",
    "claim-store:before-commit": "worker",
    "claim-store:after-commit": "worker",
    "fetch:before": "worker",
    "fetch:after": "worker",
    "put:before": "worker",
    "put:after": "worker",
    "record-store:before-commit": "worker",
    "record-store:after-commit": "worker",
    "release:before-commit": "reconciler",
    "release:after-commit": "reconciler",
    "publish:before": "reconciler",
    "publish:after": "reconciler",
    "hear:before-commit": "webhook",
    "hear:after-commit": "webhook",
}
