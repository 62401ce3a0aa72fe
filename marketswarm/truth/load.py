"""Bytes in, an accepted truth or all its mistakes out.

Pure: whoever has the bytes gives them. Not here: files, buses, revisions (`marketswarm.seeding`).
"""

import hashlib
from dataclasses import dataclass

from marketswarm.truth.clashes import look_for_clashes
from marketswarm.truth.decode import decode, look_through
from marketswarm.truth.document import DEFAULT_TIMEOUT_SEC, Truth
from marketswarm.truth.problems import Findings, Problem, TruthError
from marketswarm.truth.sections import build


@dataclass(frozen=True, slots=True)
class Loaded:
    """An accepted document, the doubts about it, and the SHA-256 of its bytes in hex."""

    truth: Truth
    warnings: tuple[Problem, ...]
    sha256: str


def load(raw: bytes, default_timeout_sec: float = DEFAULT_TIMEOUT_SEC) -> Loaded:
    """Reads and checks a document.

    Args:
        raw: the bytes of a truth.json.
        default_timeout_sec: what a service's timeout is where the document says nothing.

    Raises:
        TruthError: with every mistake at once. Nothing else, whatever the bytes.
    """
    document, twice = decode(raw)
    findings = Findings()
    look_through(document, twice, findings)
    truth = build(document, findings)
    look_for_clashes(truth, findings, default_timeout_sec)
    errors = findings.errors(document)
    if errors:
        raise TruthError(errors)
    return Loaded(truth, findings.warnings(document), hashlib.sha256(raw).hexdigest())
