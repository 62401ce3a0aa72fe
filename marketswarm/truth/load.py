"""Bytes in, an accepted truth or all its mistakes out.

Pure: whoever has the bytes gives them. Not here: files, buses, revisions (`marketswarm.seeding`).
"""

import hashlib
from dataclasses import dataclass

from marketswarm.truth.clashes import look_for_clashes
from marketswarm.truth.decode import decode, look_through
from marketswarm.truth.document import Truth
from marketswarm.truth.problems import Findings, Problem, TruthError
from marketswarm.truth.sections import build


@dataclass(frozen=True, slots=True)
class Loaded:
    """An accepted document, the doubts about it, the SHA-256 of its bytes in hex, and how many those are."""

    truth: Truth
    warnings: tuple[Problem, ...]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What a document says, without what is wrong in it; what is wrong, and what is doubtful."""

    truth: Truth
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    sha256: str


def load(raw: bytes) -> Loaded:
    """Reads and checks a document.

    Whether a document is accepted depends on its bytes alone, on nobody's environment: else one agent would
    follow a truth that the other refuses.

    Raises:
        TruthError: with every mistake at once. Nothing else, whatever the bytes.
    """
    looked = look_at(raw)
    if looked.errors:
        raise TruthError(looked.errors)
    return Loaded(looked.truth, looked.warnings, looked.sha256, len(raw))


def look_at(raw: bytes) -> Looked:
    """As `load`, for those who look further at what is left of a document that has mistakes.

    Raises:
        TruthError: it is no JSON, so that nothing is left.
    """
    document, twice = decode(raw)
    findings = Findings()
    look_through(document, twice, findings)
    truth = build(document, findings)
    look_for_clashes(truth, findings)
    sha256 = hashlib.sha256(raw).hexdigest()
    return Looked(truth, findings.errors(document), findings.warnings(document), sha256)
