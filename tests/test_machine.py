"""T1: any order of work, crashes, callbacks, checks, lies and operators, on real SQL.

Hypothesis plays the workers, the broker, the provider, the clock and the operator against the real
ledger, gate and reconciler. The invariants are checked after every step; at the end the faults
stop, and every job must come to rest. ``CUTWORK_TEST_EXAMPLES`` and ``CUTWORK_TEST_STEPS`` make it
longer.
"""

import os
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from cutwork import database, gate, lanes, ledger, schema
from cutwork.drill.virtual_time import VirtualTime
from cutwork.errors import WrongState
from cutwork.ledger import Heard, Ticket
from cutwork.migrations.upgrade import upgrade
from cutwork.provider import Accepted, KeyRefused, NotSent, Rejected, Throttled, Uncertain
from cutwork.states import PAID, RESTING, Attempt, State
from cutwork.worker import checking, submitting
from cutwork.worker.reconciler import Reconciler
from tests.provider_model import ProviderModel, Task
from tests.world import KEY_ID, RESULT, SETTINGS, World

# What is found once is found: it is not run again in the hope that it goes away.
pytestmark = [pytest.mark.long, pytest.mark.flaky(reruns=0)]

EXAMPLES = int(os.environ.get("CUTWORK_TEST_EXAMPLES", "300"))
SHARE = {"sqlite": 2 / 3, "postgresql": 1 / 3}  # a step costs there three times as much
STEPS = int(os.environ.get("CUTWORK_TEST_STEPS", "60"))
JOBS = 3
RULES = replace(SETTINGS, rate=4.0, max_in_flight=2, submit_lane=2, check_lane=2, store_lane=2)
FAILURES = [-1, -3, -7, -15]
POLICIES = ["resubmit", "hold", "fail"]
LEAPS = [0.1, 1.0, 11.0, 130.0, 4000.0]


class Machine(RuleBasedStateMachine):
    """``world`` and ``time`` are made once for each database; rows are deleted between examples."""

    world: ClassVar[World]
    time: ClassVar[VirtualTime]

    def __init__(self) -> None:
        super().__init__()
        with self.world.engine.begin() as tx:
            for table in reversed(schema.metadata.sorted_tables):
                tx.execute(table.delete())
        self.provider = ProviderModel()
        self.broker: list[tuple[str, UUID]] = []
        self.posting: list[tuple[Ticket, Task | None]] = []
        self.asking: list[Ticket] = []
        self.fetching: list[Ticket] = []
        self.jobs: list[UUID] = []
        self.allowed: dict[UUID, int] = {}
        self.fences: dict[UUID, int] = {}
        self.succeeded: set[UUID] = set()
        self.permits = 0
        self.began = self.time.now
        self.reconciler = Reconciler(self.world.engine, RULES, self._publish)

    def _publish(self, lane: str, job_ids: Any) -> None:
        self.broker += [(lane, job_id) for job_id in job_ids]
        if lane != "store":
            self.permits += len(job_ids)

    # --- the app and the operator

    @initialize(policy=st.sampled_from(POLICIES), most=st.integers(1, 3))
    def begin(self, policy: str, most: int) -> None:
        self.enqueue(policy, most)

    @precondition(lambda self: len(self.jobs) < JOBS)
    @rule(policy=st.sampled_from(POLICIES), most=st.integers(1, 3))
    def enqueue(self, policy: str, most: int) -> None:
        job_id = self.world.enqueue(on_uncertain=policy, max_paid_attempts=most)
        self.jobs.append(job_id)
        self.allowed[job_id] = most if policy == "resubmit" else 1

    @rule(choice=st.randoms(use_true_random=False))
    def cancel(self, choice: Any) -> None:
        job_id = choice.choice(self.jobs)
        if self.world.state(job_id) is State.SUCCEEDED:
            with pytest.raises(WrongState):
                self.world.do(ledger.cancel, job_id)
        elif self.world.state(job_id) is not State.FAILED:
            self.world.do(ledger.cancel, job_id)

    @rule(choice=st.randoms(use_true_random=False))
    def retry(self, choice: Any) -> None:
        job_id = choice.choice(self.jobs)
        if self.world.state(job_id) in (State.HELD, State.FAILED, State.CANCELLED):
            target = self.world.do(ledger.retry, job_id, RULES)
            self.allowed[job_id] += target is State.QUEUED

    # --- the clock, the reconciler and the broker

    @rule(seconds=st.sampled_from(LEAPS))
    def advance(self, seconds: float) -> None:
        self.time.advance(seconds)

    @rule()
    def tick(self) -> None:
        self.reconciler.run_once()

    @precondition(lambda self: self.broker)
    @rule()
    def wipe_broker(self) -> None:
        self.broker.clear()

    @precondition(lambda self: self.broker)
    @rule(choice=st.randoms(use_true_random=False), again=st.booleans())
    def deliver(self, choice: Any, again: bool) -> None:
        lane, job_id = choice.choice(self.broker)
        if not again:
            self.broker.remove((lane, job_id))
        match lane:
            case "submit":
                ticket = self.world.do(ledger.claim, job_id, RULES, callback=True)
                self.posting += [(ticket, None)] if ticket else []
            case "check":
                ticket = self.world.do(ledger.claim_check, job_id, RULES)
                self.asking += [ticket] if ticket else []
            case "store":
                ticket = self.world.do(ledger.claim_store, job_id, RULES)
                self.fetching += [ticket] if ticket else []

    # --- a worker that submits: it may die before and after each of these

    @precondition(lambda self: any(task is None for _, task in self.posting))
    @rule()
    def post_arrives(self) -> None:
        at = next(at for at, (_, task) in enumerate(self.posting) if task is None)
        ticket, _ = self.posting[at]
        made = self.world.attempt(ticket.job_id, ticket.number)
        assert made["fence"] == ticket.fence, "S2: a POST without its committed intent"
        self.posting[at] = (ticket, self.provider.accept(ticket.job_id, ticket.number))

    @precondition(lambda self: self.posting)
    @rule(
        how=st.sampled_from(
            ["reply", "reply", "lost", "refused", "throttled", "not_sent", "key", "dies"]
        )
    )
    def post_ends(self, how: str) -> None:
        ticket, task = self.posting.pop(0)
        record = partial(self.world.do, submitting.record, ticket=ticket, settings=RULES)
        if how == "dies":
            return
        if how == "lost":
            record(outcome=Uncertain("the reply did not come", None))
        elif task is not None:
            record(outcome=Accepted(task.task_id, None))
        elif how == "refused":
            record(outcome=Rejected("rejected_400", "bad", 400))
        elif how == "throttled":
            record(outcome=Throttled(None))
        elif how == "key":
            record(outcome=KeyRefused("out of credit", 401))
        else:
            record(outcome=NotSent("no route"))

    @rule()
    def resume(self) -> None:
        self.world.do(gate.resume, KEY_ID)

    # --- the provider

    @precondition(lambda self: any(task.final is None for task in self.provider.tasks.values()))
    @rule(choice=st.randoms(use_true_random=False), state=st.sampled_from([1, 1, 1, *FAILURES]))
    def task_ends(self, choice: Any, state: int) -> None:
        open_tasks = [task for task in self.provider.tasks.values() if task.final is None]
        choice.choice(open_tasks).finish(state)

    @precondition(lambda self: self.provider.tasks)
    @rule(choice=st.randoms(use_true_random=False), readable=st.booleans())
    def callback(self, choice: Any, readable: bool) -> None:
        task = choice.choice(list(self.provider.tasks.values()))
        report = task.report() if readable else None
        self.world.do(ledger.hear, task.job_id, task.number, report, RULES)

    @rule(choice=st.randoms(use_true_random=False), number=st.integers(5, 9))
    def callback_for_no_attempt(self, choice: Any, number: int) -> None:
        job_id = choice.choice(self.jobs)
        before = self.world.row(job_id)
        task = Task("task-0", job_id, number)
        task.finish(1)
        if number > before["attempt"]:
            heard = self.world.do(ledger.hear, job_id, number, task.report(), RULES)
            assert heard is Heard.GONE
            assert self.world.row(job_id) == before

    # --- workers that check and store

    @precondition(lambda self: self.asking)
    @rule(dies=st.booleans())
    def check_ends(self, dies: bool) -> None:
        ticket = self.asking.pop(0)
        if not dies:
            self._answer(ticket)

    def _answer(self, ticket: Ticket) -> None:
        task = self.provider.tasks.get(ticket.task_id or "")
        answer = task.report() if task else checking.nameless()
        self.world.do(checking.record, answer=answer, ticket=ticket, settings=RULES)

    @precondition(lambda self: self.fetching)
    @rule(how=st.sampled_from(["stored", "stored", "link_dead", "unreachable", "dies"]))
    def store_ends(self, how: str) -> None:
        ticket = self.fetching.pop(0)
        if how == "stored":
            self.world.do(ledger.stored, ticket, RESULT, RULES)
        elif how != "dies":
            permanent = how == "link_dead"
            self.world.do(ledger.not_stored, ticket, how, "x", RULES, permanent=permanent)

    # --- what must never break

    @invariant()
    def rows_are_sound(self) -> None:
        with self.world.engine.connect() as tx:
            rows = list(tx.execute(select(schema.job)))
            made = list(tx.execute(select(schema.attempt).order_by(schema.attempt.c.number)))
        for row in rows:
            own = [one for one in made if one.job_id == row.id]
            self._check_alarm(row)
            self._check_attempts(row, own)
            self._check_money(row, own)
        self._check_limits(rows)

    def _check_alarm(self, row: Any) -> None:
        assert (row.due_at is None) == (State(row.state) in RESTING), "an alarm too many or too few"
        assert row.fence >= self.fences.get(row.id, 0), "S9: the fence fell"
        self.fences[row.id] = row.fence
        assert row.id not in self.succeeded or row.state == State.SUCCEEDED, "S1"
        if row.state == State.SUCCEEDED:
            self.succeeded.add(row.id)
            task = next(t for t in self.provider.of(row.id) if t.number == row.result_attempt)
            assert task.charged, "S5: succeeded without a result of its own"
        if row.state in (State.HELD, State.FAILED):
            assert row.error_code, "L1: at rest without a reason"

    def _check_attempts(self, row: Any, own: list[Any]) -> None:
        assert [one.number for one in own] == list(range(1, row.attempt + 1)), "S4"
        sending = [one.number for one in own if one.state == Attempt.SENDING]
        live_one = [row.attempt] if row.state == State.SUBMITTING else []
        assert sending == live_one, f"S4: {sending} are being sent, the job is {row.state}"
        hands = [ticket for ticket, _ in self.posting if ticket.job_id == row.id]
        live = [ticket for ticket in hands if ticket.fence == row.fence]
        assert len(live) <= 1, "S4: two workers send for one job"
        tasks = self.provider.of(row.id)
        assert len({task.number for task in tasks}) == len(tasks), "S3: two tasks of one attempt"
        assert {task.number for task in tasks} <= {one.number for one in own}, "S3: no attempt"

    def _check_money(self, row: Any, own: list[Any]) -> None:
        charges = self.provider.charges(row.id)
        assert charges <= self.allowed[row.id], "S3: paid more than the policy allows"
        assert sum(one.state in PAID for one in own) >= charges, "S3: an unexplained charge"

    def _check_limits(self, rows: list[Any]) -> None:
        passed = (self.time.now - self.began).total_seconds()
        assert self.permits <= RULES.rate * passed + gate.burst(RULES.rate), "S10: rate"
        with self.world.engine.connect() as tx:
            flying = lanes.in_flight(tx).get(KEY_ID, 0)
        # A callback may prove that a job which was queued again is with the provider after all.
        proved = sum(row.attempt > 0 and row.state == State.WAITING for row in rows)
        assert flying <= RULES.max_in_flight + proved, "S10: in flight"

    def teardown(self) -> None:
        """The faults stop: every job comes to rest, and nothing that was paid for is lost."""
        if self.jobs:
            self._come_to_rest()
        self.reconciler.close()

    def _come_to_rest(self) -> None:
        for ticket, task in self.posting:
            end = Accepted(task.task_id, None) if task else NotSent("the faults stopped")
            self.world.do(submitting.record, outcome=end, ticket=ticket, settings=RULES)
        for _ in range(200):
            if all(self.world.state(job_id) in RESTING for job_id in self.jobs):
                break
            self._work_well()
        states = {job_id: self.world.state(job_id) for job_id in self.jobs}
        assert set(states.values()) <= RESTING, f"L1: {states}"
        self.rows_are_sound()

    def _work_well(self) -> None:
        self.world.do(gate.resume, KEY_ID)
        self.time.advance(20.0)
        self.reconciler.run_once()
        for lane, job_id in self.broker:
            if lane == "submit" and (
                ticket := self.world.do(ledger.claim, job_id, RULES, callback=True)
            ):
                task = self.provider.accept(ticket.job_id, ticket.number)
                outcome = Accepted(task.task_id, None)
                self.world.do(submitting.record, outcome=outcome, ticket=ticket, settings=RULES)
            elif lane == "check" and (ticket := self.world.do(ledger.claim_check, job_id, RULES)):
                self._answer(ticket)
            elif lane == "store" and (ticket := self.world.do(ledger.claim_store, job_id, RULES)):
                self.world.do(ledger.stored, ticket, RESULT, RULES)
        self.broker.clear()
        for task in self.provider.tasks.values():
            if task.final is None:
                task.finish(1)


@pytest.mark.no_cover
@pytest.mark.timeout(900 * max(1, EXAMPLES * STEPS // (300 * 60)))
@pytest.mark.parametrize("kind", SHARE)
def test_the_invariants_hold_in_any_order_of_events(kind: str, empty_database: Any) -> None:
    engine = database.engine(empty_database(kind))
    Machine.time = VirtualTime(engine)
    upgrade(engine)
    Machine.world = World(engine, RULES)
    bounds = settings(
        max_examples=round(EXAMPLES * SHARE[kind]),
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        for last in (False, False, True):
            try:
                run_state_machine_as_test(Machine, settings=bounds)
            except FlakyStrategyDefinition:
                # No invariant: two examples began alike and went on differently. PostgreSQL gives
                # jobs that are due at the same moment in the order of its pages, and when it tidies
                # those depends on who else uses the server. All examples are run again.
                if last or kind != "postgresql":
                    raise
            else:
                break
    finally:
        engine.dispose()
