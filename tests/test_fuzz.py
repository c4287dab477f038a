"""The fuzzed properties hold for the seeds and for what a fuzzer has found, without a fuzzer."""

import pytest

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_keeps_to_its_targets_property(name: str) -> None:
    seeds = list(TARGETS[name].seeds())

    assert seeds
    for seed in seeds:
        TARGETS[name].check(seed)
