"""The client alone: threads, a Session each, and no queue. ``python -m bench.peers.client N``."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.place import Place
from bench.processes import Crew, say_ready
from bench.stub import Stub

from . import posting


def begin(crew: Crew, _place: Place, stub: Stub, workers: int) -> posting.Put:
    def put(numbers: Sequence[int]) -> None:
        share = len(numbers) // workers
        for _ in range(workers):
            crew.start("client", ["bench.peers.client", str(share)], posting.environ(stub))

    return put


def main() -> None:
    say_ready()
    with ThreadPoolExecutor(posting.THREADS) as crowd:
        for _ in crowd.map(posting.post, range(int(sys.argv[1]))):
            pass


if __name__ == "__main__":
    main()
