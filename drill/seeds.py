"""Many seeds, spread over processes; each process has databases of its own."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from .simulator import Broken, Outcome, Place, simulate

_AT_ONCE = 10

Result = tuple[int, Outcome | Broken]


def simulate_all(seeds: range, size: int, processes: int) -> Iterator[Result]:
    """Each seed with what came of it, in their order."""
    parts = [seeds[at : at + _AT_ONCE] for at in range(0, len(seeds), _AT_ONCE)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            for results in pool.map(partial(_simulate_some, size=size), parts):
                yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def simulate_each(
    seeds: range, size: int, place: Place, lines: list[str] | None = None
) -> Iterator[Result]:
    """The same in this process, on one database; ``lines`` collects the traces."""
    for seed in seeds:
        try:
            yield seed, simulate(seed, size, place, lines)
        except Broken as broken:
            yield seed, broken


def _simulate_some(seeds: range, size: int) -> Sequence[Result]:
    with Place() as place:
        return list(simulate_each(seeds, size, place))
