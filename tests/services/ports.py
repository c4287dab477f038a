"""Ports of the loopback address."""

import socket

HOST = "127.0.0.1"


def free_port() -> int:
    """A TCP port that nobody listens on; whoever asks must take it soon."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def is_open(port: int, host: str = HOST, seconds: float = 1.0) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False
