"""The ``cutwork`` command: the one place that puts the roles together.

A command is a function in a module of its own, returns its exit status (None for 0), and raises
errors of ``cutwork.errors``; ``faults`` turns what it raises into one sentence and a status.
"""

import gc
import sys


def main() -> None:
    """Run the command line of this process and exit: 0 done, 1 failed, 2 used wrongly."""
    try:
        from cutwork.cli.commands import cutwork
        from cutwork.cli.faults import run

        status = run(cutwork)
    except KeyboardInterrupt:  # while modules were loaded
        status = 130
    # At the end Python looks through all that was loaded, for longer than many a command takes.
    gc.freeze()
    sys.exit(status)
