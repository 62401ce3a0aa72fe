"""What a command says of a bus that refuses it or has no address here: what to do about it."""

import pytest

from marketswarm.cli.fleet_view import add_remedy, suggest_remedies

WANTED = "a user and a password with the right to do this are needed: "
UNKNOWN = "this machine does not know that name: "


def test_each_reason_with_a_remedy_is_said_once_with_the_variable_of_its_first_bus():
    found = suggest_remedies(
        [("a-b", "refused"), ("system-redis", "auth"), ("market-redis", "auth"), ("x", "dns")]
    )
    assert [line.partition(" ")[0] for line in found] == ["auth:", "dns:"]
    assert found[0].startswith(f"auth: {WANTED}SYSTEM_REDIS_URL=redis://USER:PASSWORD@")
    assert found[1].startswith(f"dns: {UNKNOWN}X_URL=redis://HOST:6379")
    assert add_remedy("no", "system-redis", "timeout") == "no"


@pytest.fixture
def locked(seeded):
    """Servers that want a password, until the end of the test: they are those of the next one, too."""
    for bus in seeded:
        bus.cmd("CONFIG", "SET", "requirepass", "hunter2")
        bus.password = "hunter2"  # noqa: S105 - the test's own
    yield
    for bus in seeded:
        bus.cmd("CONFIG", "SET", "requirepass", "")
        bus.password = None


@pytest.mark.live
@pytest.mark.usefixtures("locked")
def test_without_a_password_it_says_that_one_is_needed_and_not_to_start_a_fleet(shell):
    for words in (["status"], ["seed"], ["beat", "mesh"], ["silence", "mesh", "--for", "5m", "--why", "x"]):
        ended = shell(*words)
        assert ended.returncode == 3
        assert f"{WANTED}SYSTEM_REDIS_URL=redis://USER:PASSWORD@HOST" in ended.stderr
        assert "or go to the fleet's folder, or --data DIR" in ended.stderr
        assert "marketswarm up" not in ended.stderr
        assert ("In another folder:   --data DIR" in ended.stderr) == (words[0] in ("status", "silence"))


@pytest.mark.live
def test_without_the_right_to_write_it_says_so_too(shell, seeded):
    for bus in seeded:
        bus.cmd("ACL", "SETUSER", "default", "-@write", "-@scripting")
    ended = shell("silence", "mesh", "--for", "5m", "--why", "x")
    for bus in seeded:
        bus.cmd("ACL", "SETUSER", "default", "+@all")
    assert ended.returncode == 3
    assert f"auth: {WANTED}" in ended.stderr


@pytest.mark.live
def test_a_name_that_this_machine_does_not_know_is_said_to_be_one(shell):
    urls = {f"{name}_REDIS_URL": "redis://no-such-host.invalid:6379" for name in ("SYSTEM", "MARKET")}
    ended = shell("status", **urls)
    assert ended.returncode == 3
    assert f"dns: {UNKNOWN}SYSTEM_REDIS_URL=redis://HOST:6379" in ended.stderr
    assert "Start a fleet here:  marketswarm up" in ended.stderr, "as after the end of the one that ran here"


@pytest.mark.live
def test_a_service_that_nobody_knows_has_no_empty_record(shell, seeded):
    for option in ([], ["--json"]):
        ended = shell("incidents", "--svc", "rss_ag", *option)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "the truth names no rss_ag; did you mean rss_agg?" in ended.stderr
    assert shell("incidents", "--svc", "rss_agg").stdout == "no incident of rss_agg is on record\n"
    entry = '{"incident":"gone.1","ts":1.0,"svc":"gone","what":"opened"}'
    seeded[0].cmd("XADD", "medic:incidents", "*", "entry", entry)
    assert "gone.1" in shell("incidents", "--svc", "gone").stdout
