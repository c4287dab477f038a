"""What the fixtures promise every other test: nothing skipped unsaid, no process left, no sleep."""

import signal
import sys

import psutil
import pytest

from tests.services.ports import free_port, is_open
from tests.services.processes import Processes, is_alive
from tests.services.waiting import run_until

pytest_plugins = ["pytester"]

NO_MARIADB = """
    import os
    from tests.conftest import *
    from tests.services.outcome import Missing
    from tests.services.registry import FINDERS

    def pytest_configure(config):
        missing = Missing("no server at 127.0.0.1:3306, no mariadbd installed")
        prepare(config, Services(os.environ, {**FINDERS, "mariadb": lambda url: missing}))
"""
NEEDS_A_DATABASE = """
    import pytest

    @pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
    def test_a_database(empty_database, kind):
        assert empty_database(kind)
"""
LISTENS_FOR_CTRL_C = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: None)
child = '''
import signal
signal.signal(signal.SIGINT, lambda *_: print("the child heard it", flush=True))
print("ready", flush=True)
signal.pause()
'''
sys.exit(subprocess.call([sys.executable, "-c", child]))
"""
SPAWNS_A_SESSION = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
print("child", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A test session of its own, in which there is no MariaDB."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest(NO_MARIADB)
    return pytester


def test_a_missing_service_skips_its_tests_and_the_last_lines_say_so(
    inner: pytest.Pytester,
) -> None:
    inner.makepyfile(NEEDS_A_DATABASE)

    result = inner.runpytest_inprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK
    tested, untested = result.outlines[-2:]
    assert tested.startswith("tested with: SQLite 3.")
    assert untested == (
        "NOT TESTED: MariaDB (no server at 127.0.0.1:3306, no mariadbd installed): 1 test skipped"
    )


def test_in_ci_a_missing_service_is_a_failure(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    inner.makepyfile(NEEDS_A_DATABASE)

    result = inner.runpytest_inprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*CI must test everything, and there is no MariaDB (no server*"])


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\n\ndef test_one(): pytest.skip('not today')",
        "import pytest\npytest.skip('not today', allow_module_level=True)",
        "import pytest\n\n@pytest.mark.skip(reason='not today')\ndef test_one(): pass",
    ],
    ids=["in the test", "for the module", "by a mark"],
)
def test_a_test_that_is_skipped_for_no_service_fails_the_run(
    inner: pytest.Pytester, source: str
) -> None:
    inner.makepyfile(source + "\n\ndef test_two(): pass")

    result = inner.runpytest_inprocess("-p", "no:cacheprovider")

    assert result.ret != pytest.ExitCode.OK
    assert result.outlines[-1].startswith("SKIPPED FOR NO SERVICE, which no test may be: test_a_t")
    assert "not today" in result.outlines[-1]


def test_a_test_that_was_run_again_is_named_with_its_fault(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        tried = []

        def test_that_fails_once():
            tried.append(1)
            assert len(tried) == 2, "too early"

        @pytest.mark.flaky(reruns=0)
        def test_that_may_not_fail(): assert not tried
    """)

    result = inner.runpytest_inprocess("-p", "no:cacheprovider", "--reruns", "1")

    result.assert_outcomes(passed=1, failed=1)
    assert result.outlines[-1].startswith("FAILED ONCE AND RUN AGAIN: test_a_test_that_was_run")
    assert "::test_that_fails_once (AssertionError: too early" in result.outlines[-1]


def test_a_failed_test_shows_the_end_of_the_logs_of_its_processes(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        def test_that_fails(processes):
            started = processes.start("python", "-c", "print('it was me')", name="culprit")
            started.wait()
            assert started.running
    """)

    result = inner.runpytest_inprocess("-p", "no:cacheprovider")

    result.stdout.fnmatch_lines(["*log of culprit (pid *, exit 0)*", "it was me"])


def test_a_process_sees_its_own_settings_and_no_others(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTWORK_RATE", "7")
    source = "import os; print({k: v for k, v in os.environ.items() if k.startswith('CUTWORK_')})"

    process = processes.start(sys.executable, "-c", source, env={"CUTWORK_HOME": "here"})

    assert process.wait() == 0
    assert process.log == "{'CUTWORK_HOME': 'here'}\n"


def test_nothing_that_a_process_started_outlives_it(processes: Processes) -> None:
    process = processes.start(sys.executable, "-c", SPAWNS_A_SESSION)
    child = psutil.Process(int(process.wait_for_log("\n").split()[1]))

    process.stop()

    assert not process.running
    assert not is_alive(child)
    assert process.returncode == -signal.SIGTERM


def test_ctrl_c_reaches_the_whole_group(processes: Processes) -> None:
    process = processes.start(sys.executable, "-c", LISTENS_FOR_CTRL_C)
    process.wait_for_log("ready")

    process.interrupt()

    assert process.wait() == 0
    assert "the child heard it" in process.log


def test_waiting_for_words_that_never_come_shows_what_came_instead(processes: Processes) -> None:
    process = processes.start(sys.executable, "-c", "print('goodbye')")

    with pytest.raises(AssertionError, match=r"without saying 'hello':\s+goodbye"):
        process.wait_for_log("hello")


def test_run_until_gives_the_first_true_value() -> None:
    values = iter([0, None, "", 7])

    assert run_until(lambda: next(values)) == 7


def test_run_until_says_what_it_waited_for_and_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"the moon: not within 0.02 s \(last seen: 0\)"):
        run_until(lambda: 0, 0.02, "the moon")


def test_nobody_listens_on_a_free_port() -> None:
    assert not is_open(free_port())
