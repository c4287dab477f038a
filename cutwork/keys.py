"""Whether the provider takes our API keys: one question for each, about a task that never was.

Nothing is paid for, but each question is a request of its key's rate.
"""

from collections.abc import Iterator

from cutwork.finding import Finding, finding
from cutwork.provider import KeyRefused, Provider, Throttled, Tried, Unavailable
from cutwork.settings import Settings
from cutwork.skew import compare_provider

# What is wrong whatever the key is.
_OF_ALL = ("api_away", "api_elsewhere")


def try_keys(settings: Settings) -> Iterator[Finding]:
    """A finding for each key, and one about the provider's clock if that is far from ours.

    A provider that is away, or none, is found once.
    """
    provider = Provider(settings)
    try:
        dated = None
        for key_id, token in settings.keys.items():
            tried = provider.try_key(token)
            dated = dated or tried.date
            found = _finding(key_id, tried)
            yield found
            if found.code in _OF_ALL:
                break
        yield from compare_provider(dated)
    finally:
        provider.close()


def _finding(key_id: str, tried: Tried) -> Finding:
    match tried.answer:
        case None:
            return finding("key_ok", key=key_id)
        case KeyRefused(message):
            return finding("key_refused", key=key_id, reason=message)
        case Throttled():
            return finding("key_busy", key=key_id)
        case Unavailable(reason) if tried.http_status is None:
            return finding("api_away", reason=reason)
        case Unavailable(reason) if not tried.spoke and tried.http_status < 500:
            return finding("api_elsewhere", reason=reason)
        case Unavailable(reason):
            return finding("key_unknown", key=key_id, reason=reason)
