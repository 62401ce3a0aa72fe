import pytest

from marketswarm.cli.leader import Leader, leader

LEASE = {b"boot": b"0f3c", b"epoch": b"7", b"until": b"1000.5", b"renewed": b"9"}


def test_who_leads_is_shown_with_its_epoch():
    assert leader(LEASE, 999.0) == Leader("0f3c", 7, 0.0)
    assert str(leader(LEASE, 999.0)) == "healer 0f3c leads, epoch 7"


def test_a_lease_that_ran_out_is_told_as_nobody_leading():
    assert str(leader(LEASE, 1012.6)) == (
        "no healer leads: the lease of 0f3c ran out 12 s ago, and nothing is told"
    )


@pytest.mark.parametrize(
    "lease",
    [{}, {**LEASE, b"boot": b""}, {**LEASE, b"epoch": b"x"}, {**LEASE, b"until": b"\xff"}, {b"boot": b"a"}],
)
def test_a_lease_that_is_free_or_that_nobody_can_read_has_no_leader(lease):
    assert leader(lease, 0.0) is None
