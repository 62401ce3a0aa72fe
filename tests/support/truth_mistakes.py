"""Documents of truths that hold a mistake, and how a test holds what is said about it to the exact lines."""

import json
from typing import Any

import pytest

from marketswarm.truth import TruthError, parse_truth


def one(**section: Any) -> dict[str, Any]:
    return {"services": {"rss_agg": section}}


def beat(**keys: Any) -> dict[str, Any]:
    return one(heartbeat=keys)


def healer(**section: Any) -> dict[str, Any]:
    return {"services": {"rss_agg": {}, "healer": section}}


def point(bus: Any, key: Any) -> dict[str, Any]:
    return {"bus": bus, "key": key}


def raw(document: Any) -> bytes:
    return document.encode() if isinstance(document, str) else json.dumps(document).encode()


def by_name(cases: list[tuple[str, Any, list[str]]]) -> Any:
    """Give a test each case as `document` and `lines`, under its name."""
    params = [pytest.param(document, lines, id=name) for name, document, lines in cases]
    return pytest.mark.parametrize(("document", "lines"), params)


def hold_to_lines(document: Any, lines: list[str]) -> None:
    """Assert that a document is refused with these lines alone, and that none of them shows a secret."""
    with pytest.raises(TruthError) as caught:
        parse_truth(raw(document))
    found = [str(problem) for problem in caught.value.problems]
    assert found == lines, found
    assert str(caught.value) == "\n".join(lines)
    assert "hunter2" not in repr(caught.value)
    assert "hun/ter2" not in repr(caught.value)
