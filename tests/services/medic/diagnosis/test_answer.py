"""An answer of the second tier is taken as a whole by the schema, or not at all."""

import orjson
import pytest

from marketswarm.net.chat import BadAnswerError
from services.medic.diagnosis.bundle import MAX_ANSWER_BYTES, parse_answer
from services.medic.remedies import Remedy

KNOWN = (Remedy.WAIT, Remedy.RESTART)


def answer(**more):
    return orjson.dumps({"diagnosis": "The disk is full.", **more})


def advise(*pairs):
    return [{"remedy": remedy, "target": target} for remedy, target in pairs]


def test_an_answer_has_a_diagnosis_remedies_of_the_target_and_a_patch():
    raw = answer(
        remedies=advise(("restart", "feed"), ("wait", "feed"), ("restart", "feed")), patch="-a\n+b\tc"
    )
    found = parse_answer(raw, "feed", KNOWN)
    assert (found.text, found.remedies, found.patch) == (
        "The disk is full.", (Remedy.RESTART, Remedy.WAIT), "-a\n+b\tc",
    )  # fmt: skip


REFUSED = {
    "too_long": answer(patch="x" * MAX_ANSWER_BYTES),
    "garbage": b"The disk is full.",
    "target": answer(remedies=advise(("restart", "feed"), ("restart", "healer"))),
    "remedy": answer(remedies=advise(("command", "feed"))),
    "empty": answer(diagnosis=" \n\x1b"),
}
NO_SCHEMA = [
    b"[]",
    b"null",
    b'{"remedies": []}',
    answer(diagnosis=7),
    answer(diagnosis="x" * 2001),
    answer(command="rm -rf /"),
    answer(remedies=["restart"]),
    answer(remedies=[{"remedy": "restart", "target": "feed", "argv": ["sh"]}]),
    answer(remedies=[{"remedy": "restart"}]),
    answer(remedies=advise(*[("wait", "feed")] * 6)),
    answer(patch=["-a"]),
    answer(patch="x" * 8001),
]


@pytest.mark.parametrize(("reason", "raw"), [*REFUSED.items(), *(("schema", raw) for raw in NO_SCHEMA)])
def test_anything_else_is_refused_with_a_reason(reason, raw):
    with pytest.raises(BadAnswerError, match=f"^{reason}$"):
        parse_answer(raw, "feed", KNOWN)


def test_no_text_of_an_answer_steers_a_terminal():
    found = parse_answer(answer(diagnosis="a\x1b[2J\u202eb", patch="+\x9b c"), "feed", KNOWN)
    assert (found.text, found.patch) == ("a [2J b", "+  c")


@pytest.mark.parametrize(
    ("patch", "kept", "is_altered"),
    [
        ("-a\n+\tb\n \n\n", "-a\n+\tb\n \n", False),
        ("\n-\ta \\\n+b\u00a0c\n", "\n-\ta \\\n+b\u00a0c", False),
        ("-a\r\n+b\r\n", "-a \n+b ", True),
        ("-a\f\n+\x1b[2J\u202e\u2028\x07", "-a \n+ [2J   ", True),
        (" \n", "", False),
    ],
)
def test_a_patch_stays_as_it_is_but_for_what_steers_a_terminal_and_that_is_said(patch, kept, is_altered):
    found = parse_answer(answer(patch=patch), "feed", KNOWN)
    assert (found.patch, found.is_altered) == (kept, is_altered)
