"""The digests of vexy_ai on real buses: each window has one, whoever dies, and every note is in one."""

import time

import orjson

from support.rig.receiver import Answer, Receiver
from support.scenes.agent import seed
from support.scenes.vexy_ai import add, digests, entries, notes, truth
from support.waiting import until

FIRST_MS = 1_794_000_000_000
PROBE = ("target", "site", "where", "site:443")


def bar(scene, sym, start, open_, close):
    prices = ("open", open_, "high", max(open_, close), "low", min(open_, close), "close", close)
    where = ("source", "ws", "start", FIRST_MS + start)  # a stream's, so of now whatever it says
    scene.market.cmd("XADD", "market:bars", "*", "sym", sym, *where, *prices)


def windows_agree(scene):
    """Each window has one digest, and each digest has the notes that say they are in it."""
    found = digests(scene)
    counted = [each["window"] for each in entries(scene.market) if each["kind"] == "note"]
    assert len({each["id"] for each in found}) == len(found)
    assert {each["window"]: each["items"] for each in found if each["items"]} == {
        window: counted.count(window) for window in counted
    }
    assert all(each["read"] == each["items"] for each in found)
    return True


def test_a_window_is_told_with_its_stories_moves_and_losses(scene):
    seed(
        scene.buses, truth(["rss:items", "massive:probes", "market:bars"], digest_sec=2, symbols=["ACME"]), 1
    )
    scene.module("services.vexy_ai").wait_log("agent.joined")

    def begins() -> bool:
        sec, micros = scene.market.cmd("TIME")
        return bool(sec % 2 == 0 and micros < 500_000)

    until(begins, what="a window to begin")
    # all of it at once, so that it is in one window; or in two, on a machine that stands still now
    add(scene, "a", title="Acme reports a record profit for the year", feed="x")
    add(scene, "b", title="Acme reports a record profit for the year!", feed="y")
    add(scene, "c", title="ACME: something quite different", feed="x")
    bar(scene, "ACME", 2000, 101, 110)
    bar(scene, "ACME", 1000, 100, 101)
    scene.market.cmd("XADD", "massive:probes", "*", *PROBE, "ok", 0, "stage", "tcp", "error", "refused")
    scene.market.cmd("XADD", "massive:probes", "*", *PROBE, "ok", 1)
    until(lambda: sum(each["items"] for each in digests(scene)) == 3)
    until(lambda: any(each["moves"] for each in digests(scene)))
    found = digests(scene)
    assert windows_agree(scene)
    if len(found) == 1:  # else it was cut in the midst
        (told,) = found
        assert [story["items"] for story in told["stories"]] == [2, 1]
        assert told["tickers"] == {"ACME": 1}
        (move,) = told["moves"]
        assert (move["change_pct"], move["open"], move["close"], move["bars"]) == (10.0, 100, 110, 2)
        assert told["unreachable"] == [{"target": "site", "failed": 1, "probes": 2, "why": "tcp refused"}]
    assert "plain" not in found[0]
    assert {each["from"] for each in found} == {each["window"].split("-")[0] for each in found}
    assert all(int(each["from"]) % 2 == 0 for each in found)


def test_a_window_in_which_all_went_well_is_not_worth_a_digest(scene):
    seed(scene.buses, truth(["rss:items", "massive:probes"], digest_sec=1), 1)
    agent = scene.module("services.vexy_ai")
    scene.market.cmd("XADD", "massive:probes", "*", *PROBE, "ok", 1)
    until(lambda: scene.market.cmd("HLEN", "vexy:notes:windows"))
    until(lambda: not scene.market.cmd("HLEN", "vexy:notes:windows"))
    assert entries(scene.market) == []
    assert agent.running


def test_the_length_of_a_window_may_change_while_it_works(scene):
    seed(scene.buses, truth(digest_sec=3), 1)
    scene.module("services.vexy_ai")
    add(scene, "a")
    until(lambda: notes(scene) == ["a"])
    seed(scene.buses, truth(digest_sec=1), 2)
    scene.wait_beat(svc="vexy_ai", rev=2)
    add(scene, "b")
    until(lambda: notes(scene) == ["a", "b"])
    add(scene, "c")
    until(lambda: sum(each["items"] for each in digests(scene)) == 3)
    assert windows_agree(scene)


def read_hour() -> int:
    """Return the hour in which the budget of requests is counted now."""
    return int(time.time() // 3600)


def test_a_model_is_asked_and_a_digest_without_it_says_so(scene):
    hour = read_hour()
    content = orjson.dumps({"summary": "It is so."}).decode()
    good = Answer(body=orjson.dumps({"choices": [{"message": {"content": content}}]}))
    with Receiver(good) as model:
        model.always = 503
        key = scene.folder / "key"
        key.write_text("s3cret\n", encoding="utf-8")
        seed(scene.buses, truth(digest_sec=1, llm={"model": "m"}), 1)
        agent = scene.module(
            "services.vexy_ai", VEXY_LLM_URL=f"http://127.0.0.1:{model.port}/v1", VEXY_LLM_KEY_FILE=str(key)
        )
        add(scene, "a")
        until(lambda: len(digests(scene)) == 1)
        add(scene, "b")
        until(lambda: len(digests(scene)) == 2)
        first, second = digests(scene)
        assert first["stories"][0]["summary"] == "It is so."
        assert (first["summaries"], second["summaries"]) == ("1", "0")
        assert "plain" not in first
        assert second["plain"] == "the model did not answer (503)"
        assert "Without all summaries: the model did not answer (503)" in second["text"]
        assert model.seen[0].headers["authorization"] == "Bearer s3cret"
        until(lambda: "plain digests (the model" in scene.beat("vexy_ai")["detail"])
        assert scene.beat("vexy_ai")["status"] == "ok"
        spent = scene.market.cmd("HGET", "vexy:notes:llm", "spent")
        assert spent == "2" or hour != read_hour()  # of this hour: a new one may have begun
    assert agent.stop() == 0
    assert "s3cret" not in agent.text()
