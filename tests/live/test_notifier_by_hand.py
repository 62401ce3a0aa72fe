"""The commands that speak to the notifier, with a real one behind them and a receiver at its end."""

import time

import orjson

from marketswarm.channels import Message, Severity
from marketswarm.channels.message import encode_message
from notifier.requests import RESENT_AT_ONCE
from support.fixtures import opened
from support.rig import HOST
from support.rig.receiver import Receiver
from support.rig.shell import Shell
from support.scenes.faults import service
from support.scenes.notifier import Notified, hooks
from support.waiting import until

BY = ("--by", "kim")

receiver = opened(Receiver)


def shell_in(scene: Notified) -> Shell:
    folder = scene.folder / "shell"
    folder.mkdir()
    shell = Shell(folder)
    shell.env |= scene.env
    return shell


def test_a_test_goes_the_way_of_all_messages_and_the_answer_is_the_receivers(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        shell = shell_in(scene)
        ended = shell("notify", "test", *BY)
        assert (ended.returncode, ended.stdout) == (0, f"✓ one ({HOST}:{receiver.port}): 200\n")
        [request] = receiver.seen
        assert request.data["what"] == "test"
        assert "kim asked for this" in request.data["text"]
        receiver.always = 404
        ended = shell("notify", "test", "one", *BY)
        assert (ended.returncode, ended.stderr) == (1, "")
        assert f"✗ one ({HOST}:{receiver.port}): 404" in ended.stdout
        assert shell("dead").stdout == "everything was delivered\n"  # nobody misses a test
        assert "there is no channel two; there are " in shell("notify", "test", "two", *BY).stdout


def test_nobody_is_told_of_what_is_silent_and_at_the_end_of_that_everybody_is(tmp_path, receiver):
    services = {"alpha": service(), "beta": service(), "gamma": service() | {"tags": ["ingest"]}}
    with Notified(tmp_path, hooks(one=receiver), services=services) as scene:
        shell = shell_in(scene)
        said = shell("silence", "al*", "--tag", "ingest", "--for", "1h", "--why", "x", *BY).stdout
        assert "on alpha, gamma" in said
        # the notifier puts a silence that it knows on a bus that lacks it
        scene.market.cmd("DEL", "notifier:silences")
        until(
            lambda: scene.market.cmd("EXISTS", "notifier:silences"), what="the notifier to know the silence"
        )
        for svc in ("alpha", "beta", "gamma"):
            scene.write("heartbeat_miss", svc)
        receiver.wait("heartbeat_miss", "beta")
        scene.settled()
        scene.wait_beats("notifier", 4)
        assert receiver.taken("alpha") == receiver.taken("gamma") == []
        [silence] = orjson.loads(shell("silences", "--json").stdout)
        assert shell("unsilence", silence["id"]).returncode == 0
        receiver.wait("heartbeat_miss", "alpha")
        receiver.wait("heartbeat_miss", "gamma")
        assert len(receiver.seen) == 2  # one for beta, and one for the other two


def test_an_outage_that_is_seen_to_is_not_brought_up_again(tmp_path, receiver):
    with Notified(
        tmp_path,
        hooks(one=receiver),
        services={"alpha": service(), "beta": service()},
        remind_sec=[8, 9, 600],
    ) as scene:
        shell = shell_in(scene)
        for svc in ("alpha", "beta"):
            scene.write("heartbeat_miss", svc)
            receiver.wait("heartbeat_miss", svc)
        ended = shell("ack", "alpha", *BY)
        assert (ended.returncode, ended.stdout) == (0, "✓ alpha: kim sees to it\n")
        ended = shell("ack", "gamma", *BY)
        assert ended.returncode == 1
        assert "✗ nothing is down that is called gamma; down are alpha, beta" in ended.stdout
        assert "; did you mean alpha?" in shell("ack", "alpa", *BY).stdout

        def reminders() -> list[str]:
            return [each.data["title"] for each in receiver.seen if each.data["what"] == "reminder"]

        until(lambda: len(reminders()) == 2, what="both reminders")
        reminded = reminders()
        assert all("beta" in title and "alpha" not in title for title in reminded), reminded


def test_what_no_receiver_took_is_listed_and_sent_again_under_its_id(tmp_path, receiver):
    receiver.always = 410
    with Notified(tmp_path, hooks(one=receiver), services={"alpha": service()}) as scene:
        shell = shell_in(scene)
        miss = scene.write("heartbeat_miss", "alpha")
        until(scene.dead, what="a dead message")
        [listed] = orjson.loads(shell("dead", "--json").stdout)
        assert (listed["id"], listed["channel"], listed["reason"]) == (miss, "one", "410")
        assert "1 message could not be delivered" in shell("status").stdout
        receiver.always = 200
        ended = shell("resend", miss, *BY)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout == f"✓ one ({HOST}:{receiver.port}): 200\n"
        assert receiver.seen[-1].id == miss
        until(lambda: shell("dead").stdout == "everything was delivered\n")
        ended = shell("resend", miss, *BY)
        assert (ended.returncode, ended.stdout[:2]) == (1, "✗ ")
        assert shell("resend", "--all", *BY).returncode == 0


def test_all_that_no_receiver_took_is_sent_again_however_much_it_is(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver), services={"alpha": service()}) as scene:
        shell = shell_in(scene)
        idents = [f"m{n}" for n in range(2 * RESENT_AT_ONCE + 10)]
        for ident in idents:
            message = encode_message(Message(ident, ident, "x", Severity.INFO, time.time()))
            for server in (scene.system, scene.market):
                server.cmd("XADD", "notifier:dead", "*", "message", message, "channel", "one")
        ended = shell("resend", "--all", *BY)
        assert ended.returncode == 0, ended.stdout[-1000:] + ended.stderr
        assert sorted(each.id for each in receiver.seen) == sorted(idents), "each once"
        for server in (scene.system, scene.market):
            until(lambda server=server: not server.cmd("XLEN", "notifier:dead"), what="no dead message")


def test_with_one_bus_away_all_of_it_works(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver), services={"alpha": service()}) as scene:
        shell = shell_in(scene)
        scene.system.stop()
        ended = shell("notify", "test", *BY)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "bus system-redis did not take it: refused" in ended.stdout
        assert "✓ one" in ended.stdout
        scene.system.start()
