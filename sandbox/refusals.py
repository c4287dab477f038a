"""Answers to submits that the provider does not take, in the four shapes that were seen."""

from collections.abc import Callable, Mapping

from . import shapes
from .answers import Reply
from .faults import Mischief

GATEWAY_PAGE = b"""<html>\r
<head><title>502 Bad Gateway</title></head>\r
<body>\r
<center><h1>502 Bad Gateway</h1></center>\r
<hr><center>nginx</center>\r
</body>\r
</html>\r
"""


def unknown_key() -> Reply:
    return Reply.json(401, shapes.nested_error("Invalid token", "api_error", "invalid_api_key"))


def throttled(retry_after: float | None = None) -> Reply:
    body = shapes.plain_error(429, "Too many requests, please try again later")
    headers = () if retry_after is None else (("Retry-After", f"{retry_after:.0f}"),)
    return Reply.json(429, body, *headers)


def gateway_page() -> Reply:
    return Reply(502, GATEWAY_PAGE, "text/html; charset=utf-8")


def server_error() -> Reply:
    return Reply.json(500, shapes.plain_error(500, "internal server error"))


def no_task() -> Reply:
    return Reply.json(404, shapes.plain_error(404, "task not found"))


def bad_form(status: int, message: str) -> Reply:
    return Reply.json(status, shapes.plain_error(status, message))


def refusal(name: str, mischief: Mischief) -> Reply:
    """The answer of a fault of the stage ``refusal`` that has one."""
    if name == "throttle_retry_after":
        return throttled(mischief[name])
    return _REFUSALS[name]()


def _blames_the_client() -> Reply:
    body = shapes.nested_error("image is required", "invalid_request_error", "invalid_image")
    return Reply.json(500, body)


def _no_credit() -> Reply:
    message = "The account has no credit left"
    return Reply.json(401, shapes.nested_error(message, "api_error", "insufficient_user_quota"))


def _no_credit_402() -> Reply:
    return Reply.json(402, shapes.coded_error("insufficient_balance", "Insufficient balance"))


def _unknown_gateway_error() -> Reply:
    return Reply(520, b"error code: 520", "text/plain; charset=UTF-8")


_REFUSALS: Mapping[str, Callable[[], Reply]] = {
    "throttle": throttled,
    "error_500": server_error,
    "error_502_html": gateway_page,
    "error_520_text": _unknown_gateway_error,
    "client_error_as_500": _blames_the_client,
    "bad_key": unknown_key,
    "no_credit": _no_credit,
    "no_credit_402": _no_credit_402,
}
