"""What a restart must know, and the `health:` keys, can't be written: that is said, counted, and ends."""

import orjson

from support.rig import free_port
from support.rig.metrics import key, samples
from support.scenes.faults import Scene, only, service
from support.waiting import until

READABLE = ("%R~healer:silence", "%R~healer:heard", "%R~health:*")
WRITABLE = tuple(
    f"~{name}"
    for name in ("healer:roster", "healer:lease", "healer:canary", "healer:alerts:log", "beat:*", "truth:*")
)
SAVES = ("silences", "notes", "health")


def test_saves_that_the_bus_refuses_are_logged_counted_and_in_the_beat_until_they_succeed(tmp_path):
    port = free_port()
    with Scene(tmp_path, {"alpha": service(), "beta": service()}, agents=()) as scene:
        scene.system.cmd("ACL", "SETUSER", "ear", "on", ">hush-hush", "~*", "&*", "+@all")
        url = f"redis://ear:hush-hush@127.0.0.1:{scene.system.port}"
        healer = scene.start("healer", SYSTEM_REDIS_URL=url, METRICS_PORT=str(port))
        scene.all_up()
        until(lambda: scene.system.cmd("HLEN", "healer:heard"), what="the notes of a first run")
        healer.stop()
        scene.system.cmd("ACL", "SETUSER", "ear", "resetkeys", *WRITABLE, *READABLE)
        healer.start()

        until(lambda: healer.logs("monitor.not_saved"), what=lambda: f"the refusal to be logged: {healer}")
        assert {line["reason"] for line in healer.logs("monitor.not_saved")} == {"auth"}
        until(lambda: all(f"{what} not saved" in detail(scene) for what in SAVES), what="the beat to say so")
        counts = samples(port)
        assert all(counts[key("failed_saves_total", what=what)] >= 1 for what in SAVES)
        assert len(healer.logs("monitor.not_saved")) == 1, (
            "one fact, whatever is not saved, and however often"
        )
        scene.system.cmd("ACL", "SETUSER", "ear", "~*")
        until(lambda: "not saved" not in detail(scene), 40, "the trouble to end")
        assert set(only(healer.logs("monitor.saved_again"))["what"].split(", ")) == set(SAVES)


def detail(scene: Scene) -> str:
    """What the healer's last beat says of its trouble."""
    return str(orjson.loads(scene.system.cmd("GET", "beat:healer") or "{}").get("detail", ""))
