"""FAILURES row 40: a service makes its own `beat:` key as large as it likes."""

from pathlib import Path

from support.rig import Proc
from support.scenes.faults import SLACK, TIMEOUT_SEC, Scene, service

HUGE = 300_000_000
HEALER_MAY_GROW_BY = 50_000_000


def test_row_40_a_beat_key_of_300_mb_hides_no_death_delays_none_and_costs_no_memory(tmp_path):
    services = {name: service() for name in ("hostile", "dead", "alive")}
    with Scene(tmp_path, services) as scene:
        before = peak(scene["healer"])
        scene.system.cmd("CONFIG", "SET", "proto-max-bulk-len", "512mb")  # a server without our limits
        scene.system.cmd("SETRANGE", "ballast", HUGE, "x")
        last = scene.stop_beating("hostile", "dead")
        scene.system.cmd("RENAME", "ballast", "beat:hostile")
        for svc in ("hostile", "dead"):
            miss = scene.wait_logged("heartbeat_miss", svc)
            assert miss["ts"] - last <= SLACK * (TIMEOUT_SEC + 1)
        assert peak(scene["healer"]) - before < HEALER_MAY_GROW_BY
        (said,) = scene["healer"].logs("monitor.last_beat_unreadable")
        assert (said["svc"], said["reason"], said["count"]) == ("hostile", "too_long", 1)
        with Proc("marketswarm", scene.env, scene.folder, "status", "--json") as status:
            assert status.wait(20) == 0
            (picture,) = [line for line in status.logs() if "services" in line]
        rows = {row["svc"]: row for row in picture["services"]}
        assert {svc: rows[svc]["verdict"] for svc in services} == {
            "hostile": "down",
            "dead": "down",
            "alive": "up",
        }


def peak(program: Proc) -> int:
    """The most memory that a process has ever had, in bytes."""
    text = Path(f"/proc/{program.pid}/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM"))
