"""Threads of which exactly one runs: real code, suspended wherever it meets an edge.

A scene takes the baton with ``resume`` and gives it back at its next ``pause``, so whoever holds
the schedule decides what happens between two edges, and the same schedule gives the same run. A
scene that is told to die sees :class:`Death` at the edge where it stands, and nothing after it.
"""

import threading
from collections.abc import Callable


class Death(BaseException):
    """A process was killed at an edge. Not an ``Exception``: nobody may catch it and go on."""


class Scene:
    """One piece of code that may be suspended; ``error`` is what ended it, if it did not return."""

    def __init__(self, stage: "Stage", name: str, process: str, body: Callable[[], None]) -> None:
        self.name, self.process = name, process
        self.role = process.partition("-")[0]
        self.over, self.doomed = False, False
        self.error: BaseException | None = None
        self._stage, self._body = stage, body
        self._player: _Player | None = None

    def resume(self) -> None:
        """Run until the next pause, or the end."""
        if self._player is None:
            self._player = self._stage.hire()
            self._player.scene = self
        self._player.go.release()
        self._player.back.acquire()
        if self.over and self._player is not None:
            self._stage.release(self._player)
            self._player = None

    def pause(self) -> None:
        """Give the baton back; called by the scene's own code."""
        if self.doomed:
            raise Death
        player = self._player
        if player is None:
            raise AssertionError("only a running scene can pause")
        player.back.release()
        player.go.acquire()
        if self.doomed:
            raise Death

    def play(self) -> None:
        try:
            self._body()
        except Death:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever resumed it is told
            self.error = error
        self.over = True


class Stage:
    """Keeps the threads of scenes that ended for those that begin."""

    def __init__(self) -> None:
        self._idle: list[_Player] = []

    def hire(self) -> "_Player":
        if self._idle:
            return self._idle.pop()
        player = _Player()
        player.start()
        return player

    def release(self, player: "_Player") -> None:
        player.scene = None
        self._idle.append(player)

    def close(self) -> None:
        """End the threads; every scene must be over."""
        for player in self._idle:
            player.scene = None
            player.go.release()
            player.join()
        self._idle.clear()


class _Player(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="drill", daemon=True)
        self.scene: Scene | None = None
        self.go, self.back = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.back.acquire()

    def run(self) -> None:
        while True:
            self.go.acquire()
            if self.scene is None:
                return
            self.scene.play()
            self.back.release()
