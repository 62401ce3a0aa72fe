from services.mesh.strangers import AGAIN_SEC, NAMES, Strangers


def test_a_stranger_is_news_once_an_hour():
    strangers = Strangers()
    assert strangers.heard("x", 0)
    assert not any(strangers.heard("x", now) for now in (0, 1, AGAIN_SEC - 1))
    assert strangers.heard("x", AGAIN_SEC)
    assert not strangers.heard("x", AGAIN_SEC + 1)


def test_a_flood_of_names_is_told_up_to_a_bound_and_counted_beyond():
    strangers = Strangers()
    told = sum(strangers.heard(f"s{n}", n / 100) for n in range(5 * NAMES))
    assert told == NAMES
    assert strangers.untold == 4 * NAMES
    assert strangers.heard("late", AGAIN_SEC + 1)
    assert len(strangers._told_at) <= NAMES
