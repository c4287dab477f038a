"""What a webhook cannot do without; apart from it, so that it is checked before all is loaded."""

from cutwork.errors import InvalidSetting
from cutwork.settings import Settings


def ensure_secrets(settings: Settings) -> None:
    """Without a secret every callback would be taken for a forged one.

    Raises:
        InvalidSetting: there is none.
    """
    if not settings.callback_secrets:
        raise InvalidSetting(
            "CUTWORK_CALLBACK_SECRETS",
            "",
            "must be set for a webhook",
            "put 32 random characters there, the same for workers and webhooks",
        )
