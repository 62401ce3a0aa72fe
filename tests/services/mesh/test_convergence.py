from services.mesh.convergence import EARLY_KEPT, EARLY_SEC, Convergence


def converging(rev=7, now=0.0):
    found = Convergence()
    found.applied(rev, now)
    return found


def test_what_was_so_when_it_began_took_no_time_that_anybody_knows():
    found = converging()
    assert found.reached({7}, 5.0)
    assert (found.at, found.took_sec) == (7, None)
    assert not found.reached({7}, 6.0)


def test_a_reseed_is_reckoned_from_whoever_had_it_first():
    found = converging()
    found.heard(8, 10.0)
    found.heard(8, 10.5)
    found.applied(8, 11.0)
    assert not found.reached({7, 8}, 12.0)
    assert found.reached({8}, 13.0)
    assert found.took_sec == 3.0


def test_a_revision_that_someone_made_up_long_ago_is_no_beginning():
    found = converging()
    found.heard(8, 10.0)
    found.applied(8, 10.0 + EARLY_SEC + 1)
    assert found.reached({8}, 10.0 + EARLY_SEC + 3)
    assert found.took_sec == 2.0


def test_revisions_without_end_and_old_ones_are_not_remembered():
    found = converging()
    for rev in range(1000):
        found.heard(rev, 1.0)
    assert len(found._early) == EARLY_KEPT
    assert min(found._early) == 8
    found.heard(None, 1.0)


def test_a_truth_whose_revision_is_not_known_changes_nothing():
    found = converging()
    found.applied(None, 1.0)
    assert found.reached({7}, 2.0)
    assert not Convergence().reached(set(), 0.0)


def test_going_back_to_a_lower_revision_is_a_reseed_too():
    found = converging()
    assert found.reached({7}, 1.0)
    found.applied(1, 5.0)
    assert found.reached({1}, 6.5)
    assert (found.at, found.took_sec) == (1, 1.5)
