"""A bus that takes no acknowledgement while its log grows is read no further, and holds up no other bus."""

import orjson

import support.rig.refusing_servers as ways
from notifier.inbox import CAPACITY
from notifier.source import AT_ONCE
from support.rig.receiver import Receiver
from support.scenes.notifier import LOG, Notified, hooks
from support.waiting import until

BOUND = range(CAPACITY, 2 * CAPACITY + AT_ONCE + 1)
"""So many acknowledgements wait: `ROOM`, and those of what had been read and was not decided then."""
FLOOD = 3 * CAPACITY
REPEAT = """
for _ = 1, tonumber(ARGV[2]) do
  redis.call('XADD', KEYS[1], '*', 'event', ARGV[1])
end
"""


def test_a_bus_that_takes_no_acknowledgements_is_read_no_further_and_holds_up_no_other(tmp_path):
    with Receiver() as receiver, Notified(tmp_path, hooks(one=receiver), ()) as scene:
        refusal = ways.Uncommitted(scene.market)
        notifier = scene.start("notifier", MARKET_REDIS_URL=refusal.url)
        scene.ready()
        refusal.begin()
        first = scene.write("heartbeat_miss", "first", "market-redis")
        receiver.wait("heartbeat_miss", "first")
        # nothing is to be told of these, so each is done with as soon as it is read
        again = orjson.dumps(
            {"type": "heartbeat_ok", "svc": "fine", "ts": 1.0, "id": "ok.fine", "by": "healer"}
        )
        scene.market.cmd("EVAL", REPEAT, 1, LOG, again, FLOOD)
        last = scene.write("heartbeat_miss", "last", "market-redis")
        until(lambda: "acknowledgements" in scene.beat_detail(), what=lambda: f"it in a beat: {notifier}")
        assert scene.pending("market-redis") in BOUND

        meanwhile = scene.write("heartbeat_miss", "other", "system-redis")
        receiver.wait("heartbeat_miss", "other")
        until(lambda: not scene.pending("system-redis"), what="the healthy bus to have its acknowledgements")
        scene.wait_beats("notifier", 4)  # the paused bus is asked for nothing, so it can't show that it was
        assert scene.pending("market-redis") in BOUND
        assert receiver.taken("last") == []
        [said] = notifier.logs("reading.paused")
        assert (said["bus"], said["reason"]) == ("market-redis", "auth")

        refusal.end()
        receiver.wait("heartbeat_miss", "last")
        scene.settled(15)
        assert [event["id"] for event in receiver.taken()] == [first, meanwhile, last]
        assert [line["bus"] for line in notifier.logs("reading.resumed")] == ["market-redis"]
        until(lambda: "acknowledgements" not in scene.beat_detail(), what=scene.beat_detail)
