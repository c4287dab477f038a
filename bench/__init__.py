"""Benchmarks: each work done by us, by peers, and by the ceiling, in one run: ``make bench``."""
