"""What the doctor may say: each finding one sentence and one remedy, all of them in one table.

The table is also what ``docs/doctor.md`` lists, and ``cutwork up`` warns with the same words.
"""

from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True)
class Finding:
    """``level`` is ok, warning or fault; ``remedy`` is empty when there is nothing to do.

    ``code`` is stable, for programs: a key of ``FINDINGS``.
    """

    level: str
    about: str
    sentence: str
    remedy: str = ""
    code: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def finding(code: str, **facts: Any) -> Finding:
    """The finding with its facts in place."""
    level, *words = FINDINGS[code]
    about, sentence, remedy = (one.format(**facts) for one in words)
    return Finding(level, about, sentence, remedy, code)


def first_line(error: BaseException) -> str:
    """What an error says, without the lines below, which may hold what was asked of whom."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


# code: (level, about, sentence, remedy)
FINDINGS: dict[str, tuple[str, str, str, str]] = {
    # Settings that are fine each, but not together.
    "no_token": (
        WARNING, "settings", "no API token is set: nothing is sent to the provider",
        "set CUTWORK_API_TOKENS, or use `cutwork up`, which then brings the sandbox",
    ),
    "no_secret": (
        FAULT, "settings", "CUTWORK_PUBLIC_URL is set without CUTWORK_CALLBACK_SECRETS",
        "put 32 random characters there, the same on every host",
    ),
    "no_public_url": (
        WARNING, "settings",
        "CUTWORK_CALLBACK_SECRETS is set without CUTWORK_PUBLIC_URL: no callback is asked for",
        "set CUTWORK_PUBLIC_URL for workers too, or unset the secrets",
    ),
    "key_is_secret": (
        FAULT, "settings",
        "an API key is also a callback secret: the provider could sign callbacks for any job",
        "put other random characters into CUTWORK_CALLBACK_SECRETS",
    ),
    "url_plain": (
        WARNING, "settings", "CUTWORK_PUBLIC_URL is plain http: tokens can be read on the way",
        "use https",
    ),
    "url_loopback": (
        FAULT, "settings",
        "CUTWORK_PUBLIC_URL leads to this machine only, the provider cannot call it",
        "give a public address, or unset it to ask instead",
    ),
    "url_private": (
        WARNING, "settings",
        "CUTWORK_PUBLIC_URL leads into a private network: a provider elsewhere cannot call it",
        "give a public address, or unset it to ask instead",
    ),
    "api_plain": (
        WARNING, "settings", "CUTWORK_API_URL is plain http: API keys can be read on the way",
        "use https",
    ),
    "hosts_default": (
        WARNING, "settings",
        "CUTWORK_API_URL is your own choice, and CUTWORK_RESULT_HOSTS still names another"
        " provider's host",
        "set CUTWORK_RESULT_HOSTS to the host of your provider's result links",
    ),
    "memory": (
        FAULT, "settings", "CUTWORK_{name} is in memory, where no other process sees it",
        "unset it to use files under CUTWORK_HOME",
    ),
    "one_machine": (
        WARNING, "settings",
        "CUTWORK_{here} is a file or directory of this machine, and CUTWORK_{there} is on another:"
        " a role there sees what is in it only if it is mounted there too",
        "run all roles here, mount it everywhere, or let CUTWORK_{here} be a server or a bucket",
    ),
    "paid_once": (
        WARNING, "settings",
        "ON_UNCERTAIN is resubmit, but MAX_PAID_ATTEMPTS of 1 forbids it: jobs are held",
        "allow 2, or say hold",
    ),
    "budget_low": (
        WARNING, "settings",
        "DAILY_BUDGET ({budget}) is less than MAX_PAID_ATTEMPTS ({most}): a job's last try waits"
        " for another day",
        "raise CUTWORK_DAILY_BUDGET",
    ),
    "too_late": (
        FAULT, "settings", "{early} ({over:g} s) is over before {late} ({first:g} s)",
        "lower CUTWORK_{late}",
    ),
    "check_order": (
        FAULT, "settings", "CHECK_EARLIEST is later than CHECK_LATEST", "exchange them",
    ),
    "callback_ttl_wait": (
        WARNING, "settings",
        "CALLBACK_TTL is shorter than WAIT_TIMEOUT: late callbacks are turned away",
        "raise CUTWORK_CALLBACK_TTL",
    ),
    "callback_ttl_grace": (
        FAULT, "settings",
        "CALLBACK_TTL is shorter than SUBMIT_TIMEOUT and UNCERTAIN_GRACE together: the callback"
        " that would prove a submit is turned away",
        "raise CUTWORK_CALLBACK_TTL",
    ),
    "grace_short": (
        WARNING, "settings",
        "UNCERTAIN_GRACE ({grace:g} s) is shorter than the provider may take (30 s): what a"
        " callback would still have proved is paid for again",
        "raise CUTWORK_UNCERTAIN_GRACE to 60 or more",
    ),
    "guard_short": (
        WARNING, "settings",
        "GUARD_WINDOW ({window:g} s) is shorter than UNCERTAIN_GRACE ({grace:g} s): an outage is"
        " forgotten before its second tries are due, and they are paid for",
        "raise CUTWORK_GUARD_WINDOW to twice CUTWORK_UNCERTAIN_GRACE",
    ),
    "breaker_order": (
        WARNING, "settings", "BREAKER_PAUSE is longer than BREAKER_LONGEST", "exchange them",
    ),
    "connect_long": (
        WARNING, "settings",
        "CONNECT_TIMEOUT is longer than {name}: a host that does not answer uses up all of it",
        "lower CUTWORK_CONNECT_TIMEOUT",
    ),
    "permit_long": (
        FAULT, "settings",
        "PERMIT_TTL is more than half of RESULT_TTL: a lost message can cost the result",
        "lower CUTWORK_PERMIT_TTL",
    ),
    "lease_long": (
        FAULT, "settings",
        "the lease of a download (twice RESULT_TIMEOUT and LEASE_MARGIN, {lease:g} s) outlasts"
        " RESULT_TTL: a worker that dies with it costs the result",
        "lower CUTWORK_RESULT_TIMEOUT",
    ),
    "interval_long": (
        FAULT, "settings",
        "CHECK_MAX_INTERVAL is as long as RESULT_TTL: a result can die between two questions",
        "lower CUTWORK_CHECK_MAX_INTERVAL",
    ),
    "lanes_wide": (
        WARNING, "settings",
        "CONCURRENCY ({threads}) is less than the lanes together ({lanes}): with one worker,"
        " slow downloads can keep submits waiting",
        "raise CUTWORK_CONCURRENCY, or run more workers",
    ),
    "in_flight_low": (
        WARNING, "settings",
        "MAX_IN_FLIGHT ({most}) is less than RATE starts in the 3 s that a job takes ({busy:g}):"
        " the rate cannot be used",
        "raise CUTWORK_MAX_IN_FLIGHT",
    ),
    "submit_lane_low": (
        WARNING, "settings",
        "SUBMIT_LANE ({lane}) is less than all keys may start in a second ({rate:g}): the rate"
        " cannot be used when a submit takes one",
        "raise CUTWORK_SUBMIT_LANE, and CUTWORK_CONCURRENCY with it",
    ),
    "keep_longer": (
        WARNING, "settings",
        "{name} is no shorter than KEEP_JOBS: the files go with their rows before that",
        "lower CUTWORK_{name}, or unset it",
    ),
    # The database.
    "database_ok": (OK, "database", "the database answers and has the right tables", ""),
    "database_empty": (
        FAULT, "database", "the database has no cutwork tables, this program needs {wanted}",
        "run `cutwork db upgrade`",
    ),
    "database_old": (
        FAULT, "database", "the database is at revision {found}, this program needs {wanted}",
        "run `cutwork db upgrade`",
    ),
    "database_newer": (
        FAULT, "database",
        "the database is at revision {found}, which a newer cutwork made; this one knows {wanted}",
        "update this cutwork",
    ),
    "database_url": (FAULT, "database", "{reason}", "{remedy}"),
    "database_away": (
        FAULT, "database", "the database cannot be used ({reason})",
        "start it, or set CUTWORK_DATABASE_URL",
    ),
    "gate_open": (OK, "gate", "key {key} is open", ""),
    "gate_paused": (
        FAULT, "gate", "key {key} is paused ({reason}): nothing is sent with it",
        "`cutwork resume --key {key}`",
    ),
    "gate_closed": (
        FAULT, "gate", "key {key} is closed for a while ({reason})",
        "wait, or lower CUTWORK_RATE if it comes again",
    ),
    "progress_ok": (OK, "progress", "no job is overdue", ""),
    "progress": (
        FAULT, "progress", "job {job} should have gone on: {reason}",
        "`cutwork explain {job}` says more",
    ),
    "hosts_refused": (
        WARNING, "results",
        "within a day {count} results were not fetched, because their links lead to hosts that are"
        " not allowed",
        "`cutwork list --state held` shows them; if you trust the host, add it to"
        " CUTWORK_RESULT_HOSTS, then `cutwork retry`",
    ),
    # The broker.
    "broker_ok": (OK, "broker", "a message went to the broker and came back", ""),
    "broker_url": (
        FAULT, "broker", "CUTWORK_BROKER_URL cannot be used ({reason})",
        "write amqp://user@host or redis://host, and install the extra for it",
    ),
    "broker_away": (
        FAULT, "broker", "the broker cannot be reached ({reason})",
        "start it, or set CUTWORK_BROKER_URL",
    ),
    "broker_refuses": (
        FAULT, "broker", "the broker lets us in, and does not carry a message ({reason})",
        "let this user configure, write and read queues, and see that the broker has memory and"
        " disk",
    ),
    "broker_one_way": (
        FAULT, "broker", "the broker took a message and did not give it back within {seconds:g} s",
        "see that it has memory and disk, and that nothing else empties its queues",
    ),
    "home_ok": (OK, "{about}", "the embedded {about} can keep its files under {home}", ""),
    "home": (
        FAULT, "{about}", "the embedded {about} cannot write under {home}",
        "set CUTWORK_HOME to a directory that is yours",
    ),
    # Storage, and room on disks.
    "storage_ok": (OK, "storage", "storage takes, gives back and deletes files", ""),
    "storage": (FAULT, "storage", "{reason}", "{remedy}"),
    "storage_changed": (
        FAULT, "storage", "storage gave back something else than was put there",
        "use another CUTWORK_STORAGE_URL",
    ),
    "disk_ok": (OK, "disk", "there is room where files are written", ""),
    "disk_low": (
        WARNING, "disk", "{place} has {free} left for {what}",
        "free some space, or set CUTWORK_KEEP_RESULTS or CUTWORK_KEEP_JOBS",
    ),
    "disk_full": (
        FAULT, "disk", "{place} has {free} left for {what}: it is about to be full",
        "free some space",
    ),
    # Clocks.
    "clock_ok": (OK, "clock", "the clocks of this host and of the database agree", ""),
    "clock_host": (
        WARNING, "clock",
        "this host's clock is {seconds:.0f} s {way} the database's: callback addresses and the"
        " signatures for buckets go by the one, jobs by the other",
        "let NTP set both",
    ),
    "clock_webhook": (
        WARNING, "clock", "the webhook's clock is {seconds:.0f} s {way} this host's",
        "let NTP set both",
    ),
    "clock_expires": (
        FAULT, "clock",
        "the webhook's clock is {seconds:.0f} s ahead of this host's: of CALLBACK_TTL"
        " ({ttl:g} s) less than half is left, and late callbacks are turned away",
        "let NTP set both",
    ),
    "clock_provider": (
        WARNING, "clock",
        "the provider's clock is {seconds:.0f} s {way} this host's: one of the two is wrong",
        "let NTP set this host's, and compare again",
    ),
    # API keys, tried at the provider.
    "key_ok": (OK, "key", "the provider takes key {key}", ""),
    "key_refused": (
        FAULT, "key", "the provider refuses key {key} ({reason})",
        "put another into CUTWORK_API_TOKENS, or fill its account; see CUTWORK_API_AUTH too",
    ),
    "key_busy": (
        WARNING, "key", "the provider answers key {key} that there are too many requests",
        "lower CUTWORK_RATE if it comes again",
    ),
    "key_unknown": (
        WARNING, "key", "whether the provider takes key {key} is not known ({reason})",
        "try again later",
    ),
    "api_away": (
        FAULT, "key", "the provider cannot be reached ({reason})",
        "see that CUTWORK_API_URL is right, and that this host may go there",
    ),
    "api_elsewhere": (
        FAULT, "key", "CUTWORK_API_URL leads to a server that is not the API ({reason})",
        "set CUTWORK_API_URL and CUTWORK_QUERY_PATH as the provider says",
    ),
    # The way from the public URL to our webhook.
    "url_ok": (OK, "callback", "a callback reaches our webhook whole (after {ms:.0f} ms)", ""),
    "url_away": (
        FAULT, "callback", "nothing answers at CUTWORK_PUBLIC_URL ({reason})",
        "start `cutwork webhook` and the proxy before it, and see that the name leads there",
    ),
    "url_tls": (
        FAULT, "callback", "CUTWORK_PUBLIC_URL has no TLS that can be trusted ({reason})",
        "give the proxy a valid certificate with its whole chain",
    ),
    "url_slow": (
        FAULT, "callback", "CUTWORK_PUBLIC_URL did not answer within {seconds:g} s",
        "see whether the proxy reaches the webhook, and whether the webhook has free threads",
    ),
    "url_late": (
        WARNING, "callback", "a callback was answered after {seconds:.1f} s only",
        "run more webhook processes, or see what the proxy waits for",
    ),
    "url_gateway": (
        FAULT, "callback",
        "a proxy answers at CUTWORK_PUBLIC_URL ({status}) and does not reach the webhook",
        "start `cutwork webhook`, and point the proxy to it",
    ),
    "url_redirects": (
        FAULT, "callback", "CUTWORK_PUBLIC_URL is redirected ({status}) to {where}",
        "set CUTWORK_PUBLIC_URL to where it leads: who calls back may not follow",
    ),
    "url_barred": (
        FAULT, "callback", "something before the webhook turns callbacks away ({status})",
        "let POST and GET to /callbacks/ through without a login or a filter",
    ),
    "url_other": (
        FAULT, "callback", "another server answers at CUTWORK_PUBLIC_URL ({status}{kind})",
        "route /callbacks/ of that address to `cutwork webhook`",
    ),
    "url_secrets": (
        FAULT, "callback",
        "a cutwork webhook answers at CUTWORK_PUBLIC_URL, and does not know what we signed",
        "give it the CUTWORK_CALLBACK_SECRETS of this host, and see that its clock is right",
    ),
    "url_path": (
        FAULT, "callback", "a callback reaches our webhook with another path: {change}",
        "let the proxy pass the path on as it came",
    ),
    "url_query": (
        FAULT, "callback", "a callback by GET reaches our webhook without its query, or with"
        " another",
        "let the proxy pass the query on as it came",
    ),
    "url_body": (
        FAULT, "callback", "the body of a callback does not reach our webhook as it was sent"
        " ({reason})",
        "let the proxy pass on bodies of up to CUTWORK_CALLBACK_MAX_BODY, with their length",
    ),
    "url_get": (
        WARNING, "callback", "a callback by GET does not reach our webhook ({status})",
        "let the proxy pass on GET as well: how the provider calls back is not documented",
    ),
}  # fmt: skip
