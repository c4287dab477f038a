"""What is taken out of the product, one protection at a time, and which test must then fail."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """``old`` stands once in the module's source; ``test`` is the node id that must fail."""

    name: str
    invariant: str
    taken_out: str
    module: str
    old: str
    new: str
    test: str

    def applied(self, source: str) -> str:
        if source.count(self.old) != 1:
            raise LookupError(f"{self.name}: its text stands {source.count(self.old)} times")
        return source.replace(self.old, self.new)


def _of(module: str, file: str, *rows: tuple[str, str, str, str, str, str]) -> list[Mutation]:
    """The rows are: invariant, name, what is taken out, old text, new text, test."""
    return [
        Mutation(name, invariant, out, f"cutwork.{module}", old, new, f"tests/{file}::{test}")
        for invariant, name, out, old, new, test in rows
    ]


_SAME = 'table.c[name] == given[f"was_{name}"]'
_GIVEN = 'given[f"was_{name}"].is_not(None)'
_UNPAID = "PAID = frozenset(Attempt) - {Attempt.VOID}"
_LOCK_AND_LEARN = "        return Heard.GONE\n    also = _news("
_POSTED = "    outcome = _post(tools, ticket, parcel)\n"
_CLAIMED = """\
    ticket = tools.claim(
        ledger.claim,
        job_id,
        tools.settings,
        callback=bool(tools.settings.public_url),
        key_id=order.key_id,
    )
"""
_PREMATURE = """\
    foreseen = Ticket(job_id, 1, 1, order.key_id, None, parcel.request, None)
    outcome = _post(tools, foreseen, parcel)
"""
_ANSWERS = """\
            heard = self._write(tx, batch)
        for hearing, what in zip(batch, heard, strict=True):
            hearing.answer.tell(what)
"""
_ANSWERS_EARLY = """\
            heard = self._write(tx, batch)
            for hearing, what in zip(batch, heard, strict=True):
                hearing.answer.tell(what)
"""

MUTATIONS: list[Mutation] = [
    *_of(
        "page",
        "test_protections.py",
        ("S9", "fence_not_compared", "the fence of the compare-and-set",
         _SAME, f'{_SAME} if name != "fence" else {_GIVEN}',
         "test_a_row_that_went_on_is_not_written[fence]"),
        ("S1", "state_not_compared", "the state of the compare-and-set",
         _SAME, f'{_SAME} if name != "state" else {_GIVEN}',
         "test_a_row_that_went_on_is_not_written[state]"),
    ),
    *_of(
        "page",
        "test_page.py",
        ("S9", "page_not_compared", "the compare-and-set of a page",
         "those) != len(those)", "those) > len(those)",
         "test_a_row_that_goes_on_under_a_page_undoes_all_of_it"),
        ("S1", "rows_taken_for_alike", "the look whether a page's rows are alike",
         "new[name].count(new[name][0]) == len(changes)", "new[name]",
         "test_verbs_together_do_what_they_do_one_by_one[postgresql-2]"),
        ("S4", "page_forgets", "a verb sees what those before it on the page decided",
         "        self._unseen = self._unseen | values if self._unseen else values\n", "",
         "test_claims_and_stores_together"),
    ),
    *_of(
        "worker.group",
        "test_group.py",
        ("S2", "failed_batch_believed", "what a failed batch did not commit is run again",
         "if not mine.granted:", "if False:",
         "test_a_verb_that_fails_takes_no_other_with_it"),
    ),
    *_of(
        "rows",
        "test_orders.py",
        ("S7", "knowledge_falls", "an attempt's state only rises",
         "if not knows_more(known, Attempt(made.state)):", "if False:",
         "test_every_order_of_the_same_news_ends_in_the_same_row"),
    ),
    *_of(
        "rows",
        "test_ledger.py",
        ("S10", "permit_never_lapses", "a permit that ran out is not used",
         "row.lease == MESSAGE and row.due_at > row.at", "row.lease == MESSAGE",
         "test_a_permit_that_ran_out_is_not_used"),
    ),
    *_of(
        "ledger",
        "test_protections.py",
        ("S4", "claim_raises_no_fence", "a claim raises the fence",
         "number, fence = row.attempt + 1, row.fence + 1",
         "number, fence = row.attempt + 1, row.fence",
         "test_a_worker_whose_job_was_sent_again_changes_nothing"),
        ("L1", "lease_forgotten", "the lease of a submit ends",
         "lease = settings.submit_timeout + settings.lease_margin", "lease = 1e9",
         "test_a_claim_is_a_lease_that_ends"),
    ),
    *_of(
        "ledger",
        "test_ledger.py",
        ("S4", "check_raises_no_fence", "a check's or a store's claim raises the fence",
         "fence = row.fence + 1\n    values", "fence = row.fence\n    values",
         "test_a_slow_workers_result_loses_against_the_one_that_took_over"),
        ("S9", "ticket_not_checked", "a worker's ticket is compared with the fence",
         "return row if row is not None and row.fence == ticket.fence else None", "return row",
         "test_a_check_whose_lease_ran_out_cannot_reschedule_its_successors_job"),
        ("S2", "no_intent", "a claim writes an attempt",
         "    rows.add_attempt(\n        tx,\n", "    dict(\n",
         "test_a_released_job_is_claimed_once"),
        ("L1", "probe_not_recalled", "another probe goes when the first cannot be sent",
         "        gate.recall_probe(tx, row.key_id, job_id)\n", "        pass\n",
         "test_a_probe_that_cannot_be_prepared_makes_room_for_another[sqlite-False]"),
        ("L1", "lapse_does_nothing", "a lease that ran out is noticed",
         '_lose(tx, row, "the worker\'s lease ran out", settings)', "pass",
         "test_a_dead_workers_submit_becomes_uncertain_when_its_lease_runs_out"),
        ("S3", "lapse_requeues", "a submit whose worker died is uncertain, not queued",
         "rows.move(tx, row, Event.LOST, due=grace,",
         "rows.move(tx, row, Event.NOT_SENT, due=grace,",
         "test_a_dead_workers_submit_becomes_uncertain_when_its_lease_runs_out"),
        ("S5", "any_task_will_do", "a report of another task is not this job's",
         "if made.task_id and report.task_id and made.task_id != report.task_id:", "if False:",
         "test_a_callback_that_names_another_task_completes_nothing"),
        ("S5", "callbacks_task_believed", "a task that only a callback named may be another job's",
         "doubt = _doubt(tx, row, made, report, settings) if via == \"poll\" else None",
         "doubt = None",
         "test_no_fresh_link_is_taken_from_a_task_that_another_job_is_known_by"),
        ("S5", "replies_not_awaited", "a task that a reply may still claim is not taken",
         "return Heard.UNSURE if others else None", "return None",
         "test_a_task_that_a_reply_may_still_claim_is_not_taken_yet"),
        ("S4", "any_attempt_will_do", "a failure of an older attempt is not the present one's",
         "case Verdict.FAILED if number == row.attempt:", "case Verdict.FAILED:",
         "test_a_failure_of_an_older_attempt_does_not_touch_the_present_one"),
        ("S8", "matched_by_task_id", "a callback before the submit's reply is known by its token",
         _LOCK_AND_LEARN,
         "        return Heard.GONE\n"
         '    if via == "callback" and report.task_id != made.task_id:\n'
         "        return Heard.GONE\n    also = _news(",
         "test_the_early_callback_overtakes_the_reply_and_is_not_lost"),
        ("L4", "latest_expiry_first", "results are fetched by the expiry of their links",
         ".order_by(job.c.result_expires_at)", ".order_by(job.c.result_expires_at.desc())",
         "test_results_are_fetched_in_the_order_of_their_expiry"),
        ("S12", "second_charge_unsaid", "a second charge is an event, and counted",
         'record(tx, Kind.SECOND_CHARGE, "", job_id=row.id, attempt=number)', "pass",
         "test_a_result_of_an_older_attempt_is_kept_and_the_second_charge_is_noted"),
    ),
    *_of(
        "policy",
        "test_ledger.py",
        ("S3", "hold_resubmits", "the policy hold",
         'case "resubmit" if paid < allowed:', 'case "resubmit" | "hold" if paid < allowed:',
         "test_the_jobs_own_policy_decides_after_the_grace"),
        ("S3", "paid_attempts_unlimited", "max_paid_attempts",
         'case "resubmit" if paid < allowed:', 'case "resubmit":',
         "test_a_job_is_held_when_its_paid_attempts_are_used_up"),
    ),
    *_of(
        "states",
        "test_ledger.py",
        ("S3", "uncertain_is_free", "an uncertain attempt counts as paid",
         _UNPAID, "PAID = frozenset(Attempt) - {Attempt.VOID, Attempt.UNCERTAIN}",
         "test_a_job_is_held_when_its_paid_attempts_are_used_up"),
        ("S1", "late_success_thrown_away", "a late success of a failed job is kept",
         "    (_F, Event.LATE_NEWS): _W,\n", "",
         "test_the_claim_of_a_success_of_a_failed_job_is_asked_about"),
    ),
    *_of(
        "worker.submitting",
        "test_protections.py",
        ("S2", "post_before_intent", "the intent is committed before the POST",
         _CLAIMED + """\
    if ticket is None:
        log.event("submit is not ours", level=logging.DEBUG, job=job_id)
        return
""" + _POSTED,
         _PREMATURE + _CLAIMED + "    assert ticket is not None\n",
         "test_the_intent_is_committed_before_the_post"),
    ),
    *_of(
        "worker.submitting",
        "test_house.py",
        ("S3", "uncertain_posts_again", "a POST is sent once, whatever comes back",
         _POSTED,
         _POSTED + f"    if isinstance(outcome, Uncertain):\n    {_POSTED}",
         "test_an_unknown_outcome_is_settled_by_the_policy"),
    ),
    *_of(
        "worker.storing",
        "test_protections.py",
        ("S5", "files_of_any_fence", "the fence in the name of a result's file",
         "{name}-{ticket.fence}.", "{name}.",
         "test_a_results_file_is_its_claims_own"),
    ),
    *_of(
        "worker.reconciler",
        "test_reconciler.py",
        ("S10", "permits_not_spent", "what is released is taken from the rate",
         "gate.spend(tx, one, len(job_ids), rate)", "pass",
         "test_two_reconcilers_together_keep_to_the_rate_and_name_no_job_twice"),
        ("S10", "cap_ignored", "the cap of jobs in flight",
         "slots = one.slots(settings) - flying.get(one.key_id, 0)", "slots = one.slots(settings)",
         "test_jobs_in_flight_are_capped_for_each_key"),
        ("L3", "no_recall", "what the broker did not take is due again",
         "database.transact(self._engine, verb, ids)", "pass",
         "test_a_broker_that_is_down_at_publish_leaves_the_job_due"),
    ),
    *_of(
        "worker.reconciler",
        "test_protections.py",
        ("L2", "no_checks", "a job whose callback is lost is asked about",
         "if due[State.WAITING] or due[State.QUEUED]:", "if due[State.QUEUED]:",
         "test_an_overdue_job_is_asked_about_in_an_otherwise_empty_system"),
    ),
    *_of(
        "gate",
        "test_protections.py",
        ("S10", "breaker_never_opens", "failures open the breaker",
         'if found.tripped or (values["bad"] >= enough and share >= settings.breaker_share):',
         "if found.tripped:",
         "test_failures_in_a_row_open_the_breaker"),
        ("S10", "half_open_admits_all", "a half-open gate admits the probe alone",
         "return self.open and (not self.tripped or self.probe == job_id)", "return self.open",
         "test_a_half_open_gate_admits_its_probe_alone"),
        ("S10", "half_open_permits_all", "a half-open gate gives one permit",
         "return 0 if probing else min(1, free)", "return free",
         "test_a_half_open_gate_admits_its_probe_alone"),
    ),
    *_of(
        "guard",
        "test_protections.py",
        ("S3", "guard_never_stops", "many uncertain submits stop every second try",
         "if not (many or share):", "if True:",
         "test_many_uncertain_submits_stop_every_second_try"),
    ),
    *_of(
        "wire",
        "test_provider.py",
        ("S3", "transport_retries", "the transport sends a POST once",
         "max_retries=Retry(0, read=False)", "max_retries=Retry(3, allowed_methods=None)",
         "test_a_post_is_never_sent_again_after_a_tls_error_in_the_reply"),
    ),
    *_of(
        "provider",
        "test_provider.py",
        ("S3", "broken_answer_not_sent", "a broken answer is uncertain",
         "return Reply(None, text=reason) if exchange.began else NotSent(reason)",
         "return NotSent(reason)",
         "test_once_something_was_sent_a_broken_answer_is_uncertain"),
        ("S3", "server_error_not_sent", "a 5xx to a submit is uncertain",
         "    return Uncertain(reply.reason, reply.http_status)\n\n\n",
         "    return NotSent(reply.reason)\n\n\n",
         "test_whatever_else_comes_back_leaves_the_submit_uncertain"),
        ("S11", "secrets_repeated", "what a provider echoes is searched for secrets",
         "return Reply.read(response, hide)", "return Reply.read(response, ())",
         "test_no_outcome_repeats_a_secret"),
    ),
    *_of(
        "callbacks",
        "test_callbacks.py",
        ("S6", "signature_not_checked", "the signature of a token",
         "if not any(compare_digest(_mac(secret, payload), mac) for secret in secrets):",
         "if not secrets:",
         "test_a_token_with_one_bit_flipped_is_forged"),
        ("S6", "nothing_signed_it", "without a secret no token is good",
         "if not any(compare_digest(_mac(secret, payload), mac) for secret in secrets):",
         "if not all(compare_digest(_mac(secret, payload), mac) for secret in secrets):",
         "test_every_secret_verifies_and_a_stranger_does_not"),
        ("S6", "tokens_never_expire", "the expiry of a token",
         "if version != _VERSION or now >= expires:", "if version != _VERSION:",
         "test_a_token_says_which_attempt_it_was_minted_for"),
    ),
    *_of(
        "loop",
        "test_loop.py",
        ("L5", "signals_ignored", "SIGTERM ends a loop",
         "threading.Thread(target=stop.set).start()", "None",
         "test_a_signal_sets_the_event"),
        ("L6", "loop_gives_up", "a loop goes on after an error",
         "pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**failures)", "raise",
         "test_after_a_failure_it_goes_on_a_little_later_each_time"),
    ),
    *_of(
        "database",
        "test_database.py",
        ("L6", "dead_connection_used", "a connection that the server dropped is replaced",
         "    _ping_the_idle(made)\n", "",
         "test_a_connection_that_the_server_dropped_is_replaced_unnoticed"),
    ),
    *_of(
        "completion",
        "test_completion.py",
        ("S5", "task_asked_once", "the task is compared again when the job is locked",
         " AND attempt.task_id = moved.task_id", "",
         "test_a_picture_is_not_taken_when_the_reply_just_names_another_task"),
        ("S1", "half_a_completion", "what changed a job only, and not its attempt, is undone",
         "<> (SELECT count(*) FROM known)", "< 0",
         "test_a_picture_is_not_taken_when_the_reply_just_names_another_task"),
        ("S4", "any_state_completes", "only a waiting job is completed at once",
         "job.state = 'waiting' AND", "",
         "test_it_leaves_the_rows_that_the_verbs_leave[cancelled]"),
        ("S12", "any_attempt_completes", "only a first attempt is completed at once",
         " AND job.attempt = 1", "",
         "test_it_leaves_the_rows_that_the_verbs_leave[made twice]"),
        ("S5", "too_few_outputs", "what was asked for must be there",
         "AND strpos(given.suits, job.request ->> 'output_type') > 0", "",
         "test_it_leaves_the_rows_that_the_verbs_leave[a picture and a mask]"),
    ),
    *_of(
        "webhook.inbox",
        "test_protections.py",
        ("S8", "answer_before_commit", "a callback is answered after the commit",
         _ANSWERS, _ANSWERS_EARLY,
         "test_a_callback_whose_commit_fails_is_not_answered"),
    ),
    *_of(
        "webhook.app",
        "webhook/test_webhook_tokens.py",
        ("S11", "token_left_to_others", "the token is hidden from whoever wraps the webhook",
         'environ["PATH_INFO"], environ["QUERY_STRING"] = shown, ""', "pass",
         "test_no_token_and_no_query_is_left_for_others"),
    ),
    *_of(
        "rows",
        "test_notices.py",
        ("L1", "nobody_is_told", "whoever a job names is told of its end",
         "if target in RESTING and row.notify:", "if row.notify is row:",
         "test_whoever_is_named_is_told_of_each_end"),
    ),
    *_of(
        "notices",
        "test_notices.py",
        ("L1", "silent_hosts_stay_due", "a host that does not listen is left alone",
         "    if put_off:\n", "    if not found:\n",
         "test_a_silent_host_is_left_alone_and_stands_in_nobodys_way"),
        ("S9", "notice_not_compared", "the tries of a notice are compared",
         "notice.c.tries == one.tries", "notice.c.tries.is_not(None)",
         "test_a_worker_that_dies_is_followed_by_another_and_says_nothing_any_more"),
    ),
    *_of(
        "telling",
        "test_telling.py",
        ("S11", "inner_address_told", "an inner address is told nothing",
         "guard = Guard(networks, listed=False)", "guard = Guard(networks)",
         "test_an_inner_address_is_told_nothing_unless_its_network_is_named"),
    ),
    *_of(
        "ledger",
        "test_purging.py",
        ("S2", "purged_input_retried", "a job whose picture was deleted is not sent again",
         "elif row.state in before(Event.RETRY) and rows.input_purged(tx, job_id):",
         "elif row is made:",
         "test_inputs_go_by_their_own_policy_and_a_retry_is_refused_before_it_costs"),
    ),
    *_of(
        "ledger",
        "test_census.py",
        ("S12", "purged_charges_forgotten", "what is purged goes on being counted",
         "    census.keep(tx, gone)\n", "",
         "test_what_is_purged_goes_on_being_counted"),
    ),
    *_of(
        "console.door",
        "console/test_console_door.py",
        ("S6", "any_form_believed", "a form of the console is of this session",
         "return comes_from_us(asked) and self._sessions.brings_word(asked, self._session(asked))",
         "return True",
         "test_a_form_that_is_not_of_this_session_changes_nothing"),
        ("S6", "any_word_opens", "only the token opens the console",
         "if not self._sessions.opens(token):", "if not token:",
         "test_another_word_does_not"),
    ),
    *_of(
        "probe",
        "webhook/test_webhook_probes.py",
        ("S6", "any_probe_answered", "a forged probe is answered like any forged token",
         "found = [one for one in secrets if compare_digest(_mac(one, payload), mac)]",
         "found = list(secrets)",
         "test_a_probe_is_no_callback_and_a_callback_no_probe"),
    ),
]  # fmt: skip
