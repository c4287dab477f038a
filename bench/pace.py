"""What the learned checks cost and bring, in virtual time: ``python bench/pace.py``.

For each distribution of the provider's time, 300 jobs at two a second, beginning with nothing
learned: the questions for each job while callbacks come; and when none comes, the questions and the
median time to know, against a poller that asks about each job every second.
"""

import sys
import tempfile
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from cutwork import database
from cutwork.drill.virtual_time import VirtualTime
from cutwork.migrations.upgrade import upgrade
from tests.pace_model import DURATIONS, FREE, Shown, Watch, drawn
from tests.world import World

JOBS = 300
LINE = "{:<24}" + "{:>17}" * 6


def run(name: str, lost: bool) -> Shown:
    with tempfile.TemporaryDirectory() as folder:
        engine = database.engine(f"sqlite:///{folder}/pace.db")
        time = VirtualTime(engine)
        upgrade(engine)
        shown = Watch(World(engine, FREE), time).play(drawn(name, JOBS), lambda _: lost)
        engine.dispose()
    return shown


def main() -> None:
    head = ("the provider takes", "asked, healthy", "from the 151st", "asked, all lost")
    click.echo(LINE.format(*head, "of ideal", "median", "of ideal"))
    for name in DURATIONS:
        well, ill = run(name, False), run(name, True)
        figures = (
            f"{well.asked:.3f}",
            f"{well.asked_later:.3f}",
            f"{ill.asked:.2f}",
            f"{ill.asked / ill.ideal_asked:.2f}",
            f"{ill.median:.1f} s",
            f"{ill.median / ill.ideal_median:.2f}",
        )
        click.echo(LINE.format(name, *figures))


if __name__ == "__main__":
    main()
