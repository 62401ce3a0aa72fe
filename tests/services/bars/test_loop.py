"""Garbage is collected while nothing is to be done, and what is alive is set aside."""

import gc

from services.bars.loop import COLLECT_SEC, IdleCollector


class Ring:
    """An object that only a collection frees."""

    def __init__(self, freed):
        self.me, self.freed = self, freed

    def __del__(self):
        self.freed.append(True)


def test_garbage_is_collected_now_and_then_and_what_is_alive_is_looked_at_once():
    freed, alive = [], [[] for _ in range(100)]
    collector = IdleCollector()
    Ring(freed)
    collector.collect(1000.0)
    assert freed == [True]
    assert not any(each is alive for each in gc.get_objects())
    Ring(freed)
    collector.collect(1000.0 + COLLECT_SEC / 2)
    assert freed == [True]
    collector.collect(1000.0 + COLLECT_SEC)
    assert freed == [True, True]
