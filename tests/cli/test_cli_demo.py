"""`cutwork demo`: what it shows, what it leaves, and that it leaves nothing running."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from PIL import Image

from cutwork.cli import contact_sheet
from tests.cli.conftest import PHOTOGRAPHS
from tests.services.processes import Processes, clean_environment, is_alive

NAMES = ("astronaut", "coffee", "grace_hopper")


def test_the_demo_cuts_three_photographs_and_finds_the_lost_callback(
    tmp_path: Path, processes: Processes
) -> None:
    # A real token and database in the environment are not the demo's to use.
    env = {"CUTWORK_API_TOKENS": "sk-real", "CUTWORK_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    demo = processes.start("cutwork", "demo", "--output", "out", cwd=tmp_path, env=env)

    assert demo.wait(60) == 0
    told = demo.log
    paths = [tmp_path / "out" / f"{name}-cutout.png" for name in NAMES]
    for path in (*paths, tmp_path / "out" / "contact-sheet.png"):
        assert f"  {path}\n" in told
        with Image.open(path) as picture:
            assert picture.mode == ("RGBA" if path in paths else "RGB")
            picture.load()
    assert told.count("succeeded  its callback came") == 2
    assert told.count("succeeded  no callback came, so the reconciler asked") == 1
    assert told.count("was lost: the reconciler asked the provider and found it done.") == 1


def test_ctrl_c_on_a_terminal_leaves_no_process_and_no_files(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-P", "-m", "cutwork", "demo"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
        env=clean_environment({"TERM": "xterm", "COLUMNS": "120", "TMPDIR": str(temporary)}),
    )  # fmt: skip
    os.close(theirs)
    shown, family = b"", []
    while piece := _read(ours):
        shown += piece
        if b"waiting" in shown and not family:
            family = psutil.Process(program.pid).children(recursive=True)
            program.send_signal(signal.SIGINT)
    os.close(ours)

    assert program.wait(10) == 130
    assert "━━━━".encode() in shown
    assert b"\x1b[1A" in shown  # up a line, to draw the table over itself
    assert b"Traceback" not in shown
    assert len(family) >= 5
    assert not any(is_alive(one) for one in family)
    assert list(temporary.iterdir()) == []


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the last writer is gone
        return b""


def test_ctrl_c_while_it_starts_is_as_quiet(tmp_path: Path, processes: Processes) -> None:
    demo = processes.start("cutwork", "demo", cwd=tmp_path)
    demo.wait_for_log("Starting", 30)
    demo.signal(signal.SIGINT)

    assert demo.wait(20) == 130
    assert demo.family() == set()
    assert "Traceback" not in demo.log


def test_a_contact_sheet_has_a_row_for_each_pair(tmp_path: Path) -> None:
    data = (PHOTOGRAPHS / "coffee.png").read_bytes()
    pair = contact_sheet.Pair(data, data, ("before", "after"))
    one, two = tmp_path / "one.png", tmp_path / "two.png"

    contact_sheet.draw([pair], "title", "subtitle", one)
    contact_sheet.draw([pair, pair], "title", "subtitle", two)

    with Image.open(one) as first, Image.open(two) as second:
        assert first.width == second.width
        assert second.height > first.height + 250
