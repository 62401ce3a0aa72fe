"""`marketswarm redis` on real servers: what is typed, what is shown, and that no password is."""

import signal

import pytest

from marketswarm.cli.redis_cli import REFUSED
from support.waiting import PATIENT_SEC, until

pytestmark = pytest.mark.live


def test_values_are_raw_in_a_pipe_and_as_redis_cli_shows_them_if_asked(shell, seeded):
    system, market = seeded
    system.cmd("SET", "k", "a\x1b[2J")
    market.cmd("RPUSH", "l", "x", "y")
    assert shell.said("redis", "system-redis", "GET", "k") == "a\x1b[2J\n"
    assert shell.said("redis", "--no-raw", "system-redis", "GET", "k") == '"a\\x1b[2J"\n'
    assert shell.said("redis", "--no-raw", "market-redis", "LRANGE", "l", "0", "-1") == '1) "x"\n2) "y"\n'
    assert shell.said("redis", "--no-raw", "system-redis", "SET", "k", "--json") == "OK\n"
    assert shell.said("redis", "--no-raw", "system-redis", "GET", "k") == '"--json"\n'
    system.cmd("SET", "k", "OK")
    assert shell.said("redis", "--no-raw", "system-redis", "GET", "k") == '"OK"\n'


def test_an_error_of_the_server_is_on_stderr_and_ends_with_1(shell, seeded):
    ended = shell("redis", "system-redis", "SET", "a")
    assert (ended.returncode, ended.stdout) == (REFUSED, "")
    assert ended.stderr == "(error) ERR wrong number of arguments for 'set' command\n"


def test_a_command_that_waits_longer_than_a_request_may_gets_its_reply(shell, seeded):
    assert shell.said("redis", "--no-raw", "system-redis", "BLPOP", "none", "2.2") == "(nil)\n"


def test_subscriptions_go_on_until_ctrl_c(shell, seeded):
    system, _ = seeded
    with shell.start("redis", "--no-raw", "system-redis", "SUBSCRIBE", "news") as following:
        until(lambda: system.cmd("PUBSUB", "NUMSUB", "news") == ["news", 1])
        system.cmd("PUBLISH", "news", "hello")
        lines = [following.stdout.readline() for _ in range(6)]
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENT_SEC) == 0
    assert "".join(lines) == (
        '1) "subscribe"\n2) "news"\n3) (integer) 1\n1) "message"\n2) "news"\n3) "hello"\n'
    )


def test_a_user_without_the_right_to_a_command_learns_who_it_is_and_how_to_be_another_one(shell, seeded):
    system, _ = seeded
    system.cmd("ACL", "SETUSER", "ann", "on", ">geheim", "+@read", "+@connection", "~truth:*")
    try:
        place = system.url.rpartition("@")[2].removeprefix("redis://")
        as_ann = {"SYSTEM_REDIS_URL": f"redis://ann:geheim@{place}"}
        ended = shell("redis", "system-redis", "GET", "health:mesh", **as_ann)
        assert (ended.returncode, ended.stdout) == (REFUSED, "")
        refusal, hint = ended.stderr.splitlines()
        assert refusal.lower().startswith("(error) noperm")
        assert hint == (
            "marketswarm: the user ann has no right to this: it needs the user operator; "
            "SYSTEM_REDIS_URL_FILE=FILE, a file with the URL, asks as another one"
        )
        ended = shell("redis", "system-redis", "AUTH", "ann", "falsch", **as_ann)
        assert (ended.returncode, ended.stdout) == (REFUSED, "")
        assert ended.stderr.startswith("(error) WRONGPASS ")
    finally:
        system.cmd("ACL", "DELUSER", "ann")


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("PUBLISH healer:alerts x", "it needs the user healer"),
        ("SET health:mesh x", "it needs the user healer"),
        ("CONFIG SET maxmemory 0", "no user of this fleet has it"),
    ],
)
def test_who_is_refused_learns_which_user_has_the_right(shell, seeded, command, needed):
    system, _ = seeded
    system.cmd("ACL", "SETUSER", "operator", "reset", "on", ">geheim", "+@read", "+@connection", "~truth:*")
    try:
        place = system.url.rpartition("@")[2].removeprefix("redis://")
        url = f"redis://operator:geheim@{place}"
        ended = shell("redis", "system-redis", *command.split(), SYSTEM_REDIS_URL=url)
        assert ended.returncode == REFUSED
        hint = ended.stderr.splitlines()[1]
        assert hint.startswith(f"marketswarm: the user operator has no right to this: {needed}; ")
    finally:
        system.cmd("ACL", "DELUSER", "operator")


def test_without_a_command_it_says_what_to_type(shell):
    for words in (["redis"], ["redis", "system-redis"]):
        ended = shell(*words)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "  marketswarm redis system-redis GET health:rss_agg\n" in ended.stderr


def test_a_bus_that_the_truth_does_not_name_has_the_nearest_one(shell, seeded):
    ended = shell("redis", "sytem-redis", "PING")
    assert ended.returncode == 2
    assert ended.stderr == "marketswarm: the truth names no sytem-redis; did you mean system-redis?\n"


def test_the_password_is_used_and_never_shown(shell, seeded):
    system, _ = seeded
    system.cmd("CONFIG", "SET", "requirepass", "geheim")
    system.password = "geheim"  # noqa: S105 - the test's own
    try:
        with_it = system.url if "geheim" in system.url else system.url.replace("://", "://:geheim@")
        ended = shell("redis", "system-redis", "PING", SYSTEM_REDIS_URL=with_it)
        assert (ended.returncode, ended.stdout) == (0, "PONG\n")
        ended = shell("redis", "system-redis", "PING", SYSTEM_REDIS_URL=with_it.replace("geheim", "falsch"))
        assert ended.returncode == 3
        assert "auth" in ended.stderr
        assert "falsch" not in ended.stderr
    finally:
        system.cmd("CONFIG", "SET", "requirepass", "")
        system.password = None
