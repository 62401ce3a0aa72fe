"""What `marketswarm incident` prints of an outage."""

from marketswarm.operator.healing import EntryKind, HealingIncident, TimelineEntry
from services.medic.commands import format_post_mortem


def test_a_bar_in_any_part_of_a_post_mortem_ends_no_cell():
    entry = TimelineEntry(
        incident="a.1", ts=1.0, svc="a|b", what=EntryKind.ACTED, remedy="c|d", reason="e|f", text="g|h"
    )
    lines = format_post_mortem(HealingIncident((entry,)))
    assert lines[0].startswith(r"# a\|b: ")
    assert r"| acted c\|d | e\|f: g\|h |" in lines[-1]
    assert r"- remedies: c\|d" in lines
