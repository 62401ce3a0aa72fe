"""Every source's sample, changed at random: whatever comes, there is a page, and nothing is raised."""

import copy
import random
from dataclasses import astuple

import orjson
import pytest

from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.mapping import MAX_NUMBER, read_page, read_refusal
from support.catalog_samples import read_samples

CHANGED = 8
"""How many changed samples of each endpoint are read."""
DEEP = b"[" * 1000 + b"]" * 1000
"""The deepest value that the JSON parser accepts within a row."""
DEEP_MARK = "a deep value"
ODD_VALUES = (
    *(None, True, -1, 0, 1e300, 5e-324, 2**63, -1e17, [], {}, {"a": {"b": 1}}, [1, 2], [[]]),
    *("", "-", "9" * 50, "NaN", "1e400", "--1", "²", "x" * 300, "2026-13-40", "0000-00-00", DEEP_MARK),
    *("9999999999999999", "-62135596800000", "\x00", "\u2028", "https://[", "https://x.example\u2100/"),
)
ODD_BYTES = (
    *(b"", b"\x00", b"\r", b"\xff", b"<", b"]]>", b'"', b",", b"=", b"\n", b"&x;", b"9" * 400, b"<a>" * 50),
)


def list_places(value, place=()):
    """Yield the path to each value within a JSON document."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from list_places(each, (*place, key))


def change_json(chance, body):
    """Return a JSON document with one to four values replaced by odd ones."""
    document = orjson.loads(body)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, odd = chance.choice(list(list_places(document))), copy.deepcopy(chance.choice(ODD_VALUES))
        if not place:
            document = odd
            continue
        parent = document
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = odd
    return orjson.dumps(document).replace(orjson.dumps(DEEP_MARK), DEEP)


def change_bytes(chance, body):
    """Return a text with one to four pieces replaced by odd ones."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        begin = chance.randrange(len(body) + 1)
        end = min(len(body), begin + chance.choice((0, 1, 1, 20)))
        body = body[:begin] + chance.choice(ODD_BYTES) + body[end:]
    return body


@pytest.mark.parametrize("name", shipped_catalog())
def test_a_sample_that_is_changed_anywhere_is_still_read(name):
    for sample in read_samples(name):
        chance, question, body = random.Random(f"{name} {sample.endpoint}"), sample.question, sample.body
        for _ in range(CHANGED):
            is_text = sample.rules.format != "json" or chance.random() < 0.2
            changed = (change_bytes if is_text else change_json)(chance, body)
            page = read_page(sample.source, sample.rules, question, changed)
            assert (page.outcome is AnswerStatus.OK) == bool(page.records), changed
            numbers = (value for record in page.records for value in astuple(record))
            assert all(abs(value) < MAX_NUMBER for value in numbers if isinstance(value, float)), changed
            status = chance.choice((400, 403, 500))
            assert read_refusal(sample.source, sample.rules, question, status, changed).records == ()
