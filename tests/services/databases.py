"""Names and lifetimes of the databases that the tests create on shared servers."""

import secrets

PREFIX = "cutwork_test_"


def fresh_name() -> str:
    """A name that no other test session has, also when several run at once."""
    return f"{PREFIX}{secrets.token_hex(6)}"
