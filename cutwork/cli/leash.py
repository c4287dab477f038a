"""The leash between ``cutwork up`` and each role: neither outlives the other by much.

It is a socket pair. The role says that it is ready by writing to its end; when the other end is
gone, however that came about, the role is told to stop, and a little later its whole process group
is killed. That needs nobody's cooperation: the kernel closes the sockets of a killed process.
"""

import os
import signal
import socket
import threading
import time

GRACE = 10.0


class Leash:
    """The role's end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def take(cls, number: int) -> "Leash":
        """Take the file descriptor that the parent passed on, and watch it."""
        end = socket.socket(fileno=number)
        end.set_inheritable(False)
        leash = cls(end)
        threading.Thread(target=leash._watch, name="leash", daemon=True).start()
        return leash

    def ready(self) -> None:
        """Tell the parent that the role does its work now."""
        try:
            self._end.sendall(b"r")
        except OSError:
            return  # the parent is gone: the other thread has heard of it

    def _watch(self) -> None:
        try:
            while self._end.recv(1):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        if os.getpgrp() == os.getpid():  # the parent made us the leader of a group of our own
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
