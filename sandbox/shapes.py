"""The provider's JSON: replies, callbacks and errors, tidy or as sloppy as has been seen."""

from typing import Any

from .tasks import DETAILS, DONE, PROCESSING, Task

OPTIONAL = ("download_time", "return_type", "result_type", "time_elapsed", "processed_at", "type")


def created(task: Task) -> dict[str, Any]:
    """What an asynchronous create answers."""
    return {"status": 200, "message": "success", "data": {"task_id": task.id}}


def told_at_once(task: Task) -> dict[str, Any]:
    """The full reply of a create; unlike a query's it names no mask that was not asked for."""
    body = told(task)
    if not body["data"]["mask"]:
        del body["data"]["mask"]
    return body


def told(task: Task) -> dict[str, Any]:
    """The full reply about a task, as a query answers it."""
    data = result(task)
    if "string_numbers" in task.mischief:
        return {"status": "200", "data": _sloppy(data)}
    return {"status": 200, "data": data}


def result(task: Task) -> dict[str, Any]:
    """The fields of a task in whatever state; a failed one has no picture and no rectangle."""
    state, outcome = task.state, task.outcome
    data: dict[str, Any] = {
        "completed_at": int(task.completed_at),
        "created_at": int(task.created_at),
        "download_time": round(task.download_ms),
        "err_info": DETAILS.get(state, "Failed") if state < 0 else "",
        "image": "",
        "mask": "",
        "output_type": task.asked.output_type,
        "processed_at": int(task.processed_at),
        "progress": task.progress,
        "return_type": 1,
        "state": state,
        "state_detail": DETAILS.get(state, "Failed"),
        "task_id": task.id,
        "type": task.asked.kind or "auto",
    }
    if outcome is not None and state == DONE:
        x, y, width, height = outcome.rect
        data |= {
            "foreground_rect": {"x": x, "y": y, "width": width, "height": height},
            "image": outcome.image,
            "mask": outcome.mask,
            "image_height": outcome.height,
            "image_width": outcome.width,
            "result_type": outcome.kind,
            "time_elapsed": outcome.cut_ms,
        }
    if "no_state_detail" in task.mischief:
        del data["state_detail"], data["err_info"]
    return data


def ongoing(task: Task) -> dict[str, Any]:
    """What is said of a task that is being worked on, whatever it is by now."""
    data = {
        "task_id": task.id,
        "state": PROCESSING,
        "state_detail": DETAILS[PROCESSING],
        "progress": 21,
        "created_at": int(task.created_at),
        "completed_at": 0,
        "image": "",
        "mask": "",
    }
    return {"status": 200, "data": data}


def plain_error(status: int, message: str) -> dict[str, Any]:
    """Shape (a)."""
    return {"status": status, "message": message}


def nested_error(message: str, kind: str, code: str) -> dict[str, Any]:
    """Shape (b)."""
    return {"error": {"message": message, "type": kind, "code": code}}


def coded_error(code: str, message: str) -> dict[str, Any]:
    """Shape (c)."""
    return {"code": code, "message": message, "data": None}


def _sloppy(data: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in data.items() if name not in OPTIONAL}
    return {name: _text(value) for name, value in kept.items()}


def _text(value: Any) -> Any:
    match value:
        case dict():
            return {name: _text(inner) for name, inner in value.items()}
        case int() | float():
            return str(value)
        case "":
            return None
    return value
