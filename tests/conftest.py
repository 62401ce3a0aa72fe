"""Rules for every test: what may be missing, what must not be left behind, how hard Hypothesis tries.

A test that starts no process and opens no socket is marked `unit` and held to it; see `support.kinds`.

`pytestmark = pytest.mark.needs("redis-cli")` says that a test needs a program. Where it is missing, the
test is skipped, and says so; with MARKETSWARM_CI=1 every skip is a failure, whoever asked for it, so that
nothing goes unproven in silence.

`@pytest.mark.nightly("test_row_5_… stops a bus in every run")` leaves a test to `make nightly`, and says what
proves the same in every run. `--nightly` runs these tests, too.
"""

import functools
import gc
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, Phase, settings

from support.kinds import Guard, explained, is_live
from support.leftovers import TAG, end_leftovers, end_projects
from support.order import arrange, read_failures
from support.report import AtOnce, LastRun
from support.watchdog import Watchdog

# here, since a test of another folder may import one of them first
pytest.register_assert_rewrite(
    *("support.archive_play", "support.scenes.bars", "support.scenes.kills", "support.signal_log")
)
HERE = Path(__file__).parent
SLOW_STARTERS = (
    "test_soak.py",
    "test_detector_machine.py",
    "test_election_machine.py",
    "test_dispatcher_killed.py",
    "test_jobs_over_days.py",
    "test_medic.py",
    "test_one_password.py",
    "test_acl_fleet.py",
    "test_probe_alerts.py",
    "test_gated_fleet.py",
)
APART = ("faults", "compose", "deploy", "systemd", "board", "market", "archive", "servers")
TEARDOWN_SEC = 300.0
"""Longer than the fixtures of a test take to end; containers take a minute."""
LEFT: list[str] = []
GUARD = Guard()
WATCHDOG = Watchdog()
IN_CI = os.environ.get("MARKETSWARM_CI") == "1"

# that examples are slow to make says only that the machine has something else to do
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
BUSY = settings.get_profile("busy")
# the same examples each time, so that a red run can be had again on any machine; the night tries others
settings.register_profile("dev", BUSY, max_examples=20, derandomize=True, database=None)
settings.register_profile(
    "brief",
    BUSY,
    max_examples=10,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # a failure shows at once; to shrink it can take minutes
)
settings.register_profile("explore", BUSY, max_examples=2000)
# what `make nightly` has time for: other examples each night
settings.register_profile("night", BUSY, max_examples=400, database=None, print_blob=True)
settings.register_profile(
    "ci",
    BUSY,
    max_examples=20,  # `night` tries others
    derandomize=True,
    database=None,
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--apart",
        action="store_true",
        help=f"without tests/{{{','.join(APART)}}}, which have targets of their own, unless they are named",
    )
    parser.addoption("--nightly", action="store_true", help="also the tests that only `make nightly` runs")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("apart") or collection_path.parent != HERE or collection_path.name not in APART:
        return None
    named = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return None if any(path.is_relative_to(collection_path) for path in named) else True


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # while tests are collected: what that makes stays, however often one looks through it
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(AtOnce(config))
        if config.getoption("apart"):
            config.pluginmanager.register(LastRun(config))
    config.addinivalue_line("markers", "needs(*programs): skipped where one is not on PATH; in CI, failed")
    config.addinivalue_line(
        "markers", "nightly(proof): left to `make nightly`; `proof` is what every run has"
    )
    if not handed_out(config):
        os.environ[TAG] = getattr(config, "workerinput", {}).get("run", str(os.getpid()))
        let_children_have_their_signals()
        GUARD.install()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


def let_children_have_their_signals() -> None:
    """Handle the signals that a shell has had ignored: what this process starts would ignore them, too.

    `nohup make test &` does that to SIGHUP and SIGINT. A handler is not inherited; an ignored signal is.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # this process shall survive it


def handed_out(config: pytest.Config) -> bool:
    """Return True if this process runs no test itself, but gives them to xdist's workers."""
    return bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: live tests wait more than they work, so three workers a core keep the cores busy."""
    return min(3 * (os.cpu_count() or 1), 24)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker the tag of the run, which the processes of its tests inherit."""
    node.workerinput["run"] = str(os.getpid())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("nightly"):
        nightly = [item for item in items if _find_nightly_proof(item)]
        config.hook.pytest_deselected(items=nightly)
        left = set(nightly)
        items[:] = [item for item in items if item not in left]
    for item in items:
        folder = _folder_and_name(item.path)[0]
        if folder == "faults":
            item.add_marker("fault")
        elif folder == "live" or is_live(item):
            item.add_marker("live")
        if not (item.get_closest_marker("fault") or item.get_closest_marker("live")):
            item.add_marker("unit")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = arrange(items, read_failures(config), SLOW_STARTERS, workers)


def _find_nightly_proof(item: pytest.Item) -> str | None:
    """Return what a nightly test says of its proof in every run; None for a test of every run."""
    mark = item.get_closest_marker("nightly")
    if mark is None:
        return None
    (proof,) = mark.args or ("",)
    if not proof:
        raise pytest.UsageError(f"{item.nodeid}: mark.nightly must say what proves the same in every run")
    return str(proof)


@functools.cache
def _folder_and_name(path: Path) -> tuple[str, str]:
    return path.relative_to(HERE).parts[0], path.name


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the time that a test may take begins to run
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("unit"):
        GUARD.watch(item.nodeid)
    try:
        return (yield)
    finally:
        GUARD.release()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if shutil.which(program) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)} on PATH")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """End this process, and show its stacks, if fixtures do not end.

    The time limit of a test is over once it has struck: what hangs after that would hang the run.
    """
    stderr = item.config.stash.get(fault_handler_stderr_fd_key, 2)  # the process' own, not the test's
    WATCHDOG.begin(TEARDOWN_SEC, stderr)
    try:
        return (yield)
    finally:
        WATCHDOG.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if GUARD.broken and not report.failed:  # whatever the product made of it
        report.outcome = "failed"
        report.longrepr = explained(GUARD.broken)
    GUARD.broken = ""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", str(report.longrepr))
        report.outcome = "failed"
        report.longrepr = f"{reason} (MARKETSWARM_CI=1: a skipped test has proven nothing)"
    return report


@pytest.fixture(autouse=True)
def _this_process_is_left_as_it_was() -> Iterator[None]:
    """Hold the process to what it was: a handler or a variable left behind makes the next test's failure."""
    before = surroundings()
    yield
    after = surroundings()
    changed = sorted(name for name in before if after[name] != before[name])
    assert not changed, f"the test changed and did not put back: {', '.join(changed)}"


def surroundings() -> dict[str, object]:
    # the second is polars' own, at its import: it makes its memory go back to the system soon
    passing = (b"PYTEST_CURRENT_TEST", b"_RJEM_MALLOC_CONF")
    environ = os.environ._data.copy()  # type: ignore[attr-defined]  # noqa: SLF001 - `items()` takes a tenth of a test
    for name in passing:
        environ.pop(name, None)
    handlers = {
        f"handler of {number.name}": signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }
    return {"os.environ": environ, "current folder": Path.cwd(), **handlers}


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Look for what was left running, once no test runs any more, and end it."""
    forkserver = sys.modules.get("support.rig.forkserver")
    running = forkserver.close() if forkserver else []
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = running
    else:
        LEFT.extend(running)
        folder = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # noqa: SLF001 - pytest's own
        LEFT.extend(end_leftovers(str(os.getpid()), folder))
        LEFT.extend(end_projects(str(os.getpid())))
        if LEFT:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of xdist's workers found running at its end."""
    LEFT.extend(getattr(node, "workeroutput", {}).get("left", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if LEFT:
        terminalreporter.section("left behind by tests (ended now)", red=True)
        terminalreporter.write("".join(f"{line}\n" for line in LEFT))
