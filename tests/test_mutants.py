"""The test of the tests: a protection that is taken out makes a test fail."""

import os
import random
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.mutants.mutations import MUTATIONS, Mutation
from tests.mutants.running import ROOT, notices, pass_unmutated

INVARIANTS = {f"S{number}" for number in range(1, 13)} | {f"L{number}" for number in range(1, 7)}
SAMPLE = 4


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_what_a_mutation_takes_out_is_there_once(mutation: Mutation) -> None:
    spec = find_spec(mutation.module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")

    compile(mutation.applied(source), spec.origin, "exec")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_the_test_that_must_notice_exists(mutation: Mutation) -> None:
    file, _, test = mutation.test.partition("::")

    assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_invariant_has_a_mutant_and_no_two_share_a_name() -> None:
    assert {one.invariant for one in MUTATIONS} == INVARIANTS
    assert len({one.name for one in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_protection_that_is_taken_out_is_noticed() -> None:
    chosen = MUTATIONS
    if os.environ.get("CUTWORK_TEST_MUTANTS") != "all":
        day = datetime.now(UTC).date().isoformat()
        chosen = random.Random(day).sample(MUTATIONS, SAMPLE)
        print(f"the mutants of {day}: {', '.join(one.name for one in chosen)}")  # noqa: T201

    assert not pass_unmutated(chosen)
    survivors = {one.name: ran.said for one in chosen if not (ran := notices(one)).noticed}
    assert not survivors
