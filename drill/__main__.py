"""``python -m cutwork.drill``: the tiers that are run by hand."""

from .main import main

main()
