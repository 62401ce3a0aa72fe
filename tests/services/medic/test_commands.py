"""What `marketswarm incident` prints of an outage."""

from marketswarm.operator.healing import (
    DiagnosisRecord,
    EntryKind,
    HealingIncident,
    OutageEvidence,
    TimelineEntry,
)
from marketswarm.packed_log import pack_log
from services.medic.commands import format_diagnosis, format_evidence, format_post_mortem


def test_a_bar_in_any_part_of_a_post_mortem_ends_no_cell():
    entry = TimelineEntry(
        incident="a.1", ts=1.0, svc="a|b", what=EntryKind.ACTED, remedy="c|d", reason="e|f", text="g|h"
    )
    lines = format_post_mortem(HealingIncident((entry,)))
    assert lines[0].startswith(r"# a\|b: ")
    assert r"| acted c\|d | e\|f: g\|h |" in lines[-1]
    assert r"- remedies: c\|d" in lines


def test_no_foreign_text_of_a_post_mortem_is_an_image_a_link_a_tag_or_code():
    hostile = r"![x](https://e/) <img src=e> \<b> [a] `c` wait!"
    safe = r"\!\[x\](https:<!-- -->//e/) \<img src=e> \\\<b> \[a\] \`c\` wait!"
    told = dict.fromkeys(("svc", "remedy", "reason", "text"), hostile)
    entry = TimelineEntry(incident="a.1", ts=1.0, what=EntryKind.ACTED, **told)
    lines = format_post_mortem(HealingIncident((entry,)))
    assert lines[0].startswith(f"# {safe}: ")
    assert f"| acted {safe} | {safe}: {safe} |" in lines[-1]
    assert f"- remedies: {safe}" in lines
    known = {"step": "intended", "facts": {hostile: hostile}, "readings": {}, "packed_log": ""}
    assert f"- {safe}: {safe}" in format_evidence(OutageEvidence(svc="a", incident="a.1", ts=1.0, **known))


def test_a_diagnosis_and_its_patch_are_blocks_of_code():
    assert format_diagnosis(None) == []
    told = {
        "reason": "escalated",
        "text": "Full.\n\nNo # heading\x1b[2J\n![x](https://e/?q=1) <img src=e>",
        "patch": "-a\n+b",
        "remedies": ("restart",),
    }
    lines = format_diagnosis(DiagnosisRecord(svc="a", incident="a.1", ts=1.0, **told))
    assert lines[1:8] == [
        *("## Diagnosis (escalated)", "", "    Full.", "    ", r"    No # heading\x1b[2J"),
        *("    ![x](https://e/?q=1) <img src=e>", ""),
    ]
    assert lines[8:] == [
        "- advised: restart",
        "- a patch, which nothing applies:",
        "",
        "      -a",
        "      +b",
    ]
    altered = format_diagnosis(DiagnosisRecord(svc="a", incident="a.1", ts=1.0, **told, altered=True))
    assert altered[9] == "- a patch, which nothing applies, and from which something was removed:"


def test_evidence_is_a_list_and_the_log_a_block_of_code():
    assert format_evidence(None) == []
    told = {
        "step": "intended x|y",
        "facts": {"health": "down", "process_end": "", "silence_sec": None},
        "readings": {"process_cpu": 98.76543},
        "packed_log": pack_log("# no heading\nthe \x1b[2J end"),
    }
    lines = format_evidence(OutageEvidence(svc="a", incident="a.1", ts=1.0, **told))
    assert lines[1].startswith(r"## Evidence of `intended x\|y`, at ")
    assert lines[3:] == [
        "- health: down",
        "- process_cpu: 98.8 %",
        "- the last 2 lines of its log:",
        "",
        "      # no heading",
        r"      the \x1b[2J end",
    ]


def test_what_a_forge_would_make_a_link_or_a_mention_of_is_none():
    """A forge splits a text at a comment, which it does not show."""
    said = "see https://x.test and www.x.test, mail a@x.test, @ann in #12, a/b#3, !4, GH-5, mailto:x"
    lines = format_evidence(
        OutageEvidence(
            svc="a", incident="a.1", ts=1.0, step="x", facts={"status": said}, readings={}, packed_log=""
        )
    )
    (line,) = [each for each in lines if "status" in each]
    for live in ("https://", "www.", "@x", "@ann", "#12", "#3", "!4", "GH-5", "mailto:"):
        assert live not in line, live
    assert line.replace("<!-- -->", "").endswith(said)
    entry = TimelineEntry(incident="a.1", ts=1.0, svc="a", what=EntryKind.ACTED, text="ask @ann")
    assert "@<!-- -->ann" in format_post_mortem(HealingIncident((entry,)))[-1]
