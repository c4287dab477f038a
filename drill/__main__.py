"""``python -m cutwork.drill``: the tiers that are run by hand."""

import sys

from cutwork.cli.faults import run

from .main import main

sys.exit(run(main, program="python -m cutwork.drill"))
