"""``python -m cutwork`` is the ``cutwork`` command."""

from cutwork.cli import main

main()
