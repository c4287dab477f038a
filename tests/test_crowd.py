"""A worker's crowd of threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cutwork.worker.crowd import Crowd


def test_each_thing_is_done_and_told_in_its_order() -> None:
    crowd = Crowd(3)
    assert crowd.map(lambda number: number * 2, range(50)) == [number * 2 for number in range(50)]
    assert crowd.map(str, []) == []


def test_as_many_as_it_has_threads_go_side_by_side_and_no_more() -> None:
    crowd, together = Crowd(4), threading.Barrier(4)
    names = crowd.map(lambda _: (together.wait(10), threading.current_thread())[1], range(12))
    assert len(set(names)) == 4


def test_those_who_come_with_several_messages_wait_for_their_own_only() -> None:
    crowd, free = Crowd(2), threading.Event()
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(crowd.map, lambda _: free.wait(10), [0])
        assert crowd.map(lambda _: "done", range(5)) == ["done"] * 5
        assert not slow.done()
        free.set()
        assert slow.result(10) == [True]


def test_a_fault_is_the_bringers_and_no_thread_is_lost_for_it() -> None:
    crowd, done = Crowd(1), []

    def step(number: int) -> None:
        done.append(1 / number)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            crowd.map(step, [2, 0, 1])
    assert done == [0.5, 1.0] * 2


def test_threads_are_made_when_they_are_needed() -> None:
    crowd, before = Crowd(100), threading.active_count()
    crowd.map(lambda _: None, range(3))
    assert threading.active_count() <= before + 3
