"""What the bench of cycles measures: the same ticks, byte by byte, however fast they are decided."""

from hashlib import sha256

from bench import signal_cycle
from bench.signal_cycle import HISTORY, TICK_MS, TICKS_A_MINUTE, CycleRun

MADE = "d379f2198b9e42a32deeac223becd3eb9ef603c39cb1e70543c068696846ad50"
"""The digest of all that these ticks said when the log of signals was new."""


def test_the_ticks_of_the_bench_are_byte_by_byte_what_they_were_before_they_cost_less(monkeypatch):
    digest, make_tick = sha256(), signal_cycle.make_tick

    def note_tick(number, tick, at_ms, places, **said):
        entry = make_tick(number, tick, at_ms, places, **said)
        digest.update(b"\n".join((entry, *places.texts, *places.hashes)))
        return entry

    monkeypatch.setattr(signal_cycle, "make_tick", note_tick)
    run = CycleRun(60)
    for _ in range(HISTORY):
        run.take_minute()
    run.play_tick(run.next_ms)
    for _ in range(12):
        run.take_minute()
        for number in range(TICKS_A_MINUTE):
            run.play_tick(run.next_ms + TICK_MS * number)
    assert run.evaluated > 80
    assert digest.hexdigest() == MADE
