"""One word for what went wrong on a network."""

import socket

from marketswarm.net.errors import EXACT_REASONS, GENERAL_REASONS, NetworkReason, find_reason, iterate_causes


def caused(error, *causes):
    """An error that was raised from the first cause, which was raised from the second, and so on."""
    link = error
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return error


NO_NAME = socket.gaierror(socket.EAI_NONAME, "x")


def test_every_reason_is_one_of_the_vocabulary_and_plain_text():
    found = find_reason(ConnectionResetError(), EXACT_REASONS, GENERAL_REASONS)
    assert found in set(NetworkReason)
    assert type(found) is str


def test_what_says_the_reason_exactly_counts_before_what_wraps_it_and_the_nearer_before_the_farther():
    assert find_reason(caused(OSError("x"), NO_NAME), EXACT_REASONS, GENERAL_REASONS) == "dns"
    assert find_reason(caused(TimeoutError(), NO_NAME), EXACT_REASONS, GENERAL_REASONS) == "timeout"
    assert find_reason(ValueError("x"), EXACT_REASONS, GENERAL_REASONS) is None


def test_causes_that_go_round_in_a_circle_end():
    first, second = OSError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(list(iterate_causes(first))) == 8
