"""Mutates valid inputs and feeds them to a target.

Each target of `targets` and `replies` takes bytes, does with them what the product does,
checks what must hold whatever they are, and returns a word for what came of them. Inputs are mutations of
samples that are valid; one with an outcome not seen before is itself mutated further, so the corpus grows
towards what the code can tell apart. The same seed makes the same cases. A failure is printed with the
bytes that made it.
"""

import random
import time
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

SLOWEST_SEC = 1.0
"""What one case may take, of this process's own time."""
CORPUS_AT_MOST = 1000

Examine = Callable[[bytes], Hashable]


@dataclass(frozen=True)
class Target:
    """A parser to feed, with its samples.

    `share` is its part of a run's cases; `weight` is how many cases one call stands for; `words` are put into
    mutants.
    """

    name: str
    examine: Examine
    samples: tuple[bytes, ...]
    words: tuple[bytes, ...]
    share: float
    longest: int = 8192
    weight: int = 1


@dataclass
class Found:
    """The result of a run over one target."""

    name: str
    cases: int = 0
    sec: float = 0.0
    slowest_sec: float = 0.0
    outcomes: set[Hashable] = field(default_factory=set)
    failure: str = ""


ODD = (
    b"", b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa9", b"\xef\xbb\xbf", b"\r\n", b"\\",
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e999",
    b"1e-999", b"-1", b"0", b"1", b"9" * 25, b"18446744073709551615", b"9223372036854775808", b"0.1",
    b"1e308", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"\\u202e", b"[" * 1100, b'{"a":' * 300, b" " * 64,
)  # fmt: skip


def mutate(  # noqa: C901 - a list of damages
    chance: random.Random, raw: bytes, other: bytes, words: tuple[bytes, ...], longest: int
) -> bytes:
    """A relative of `raw`: one to four small damages; `other` is there to be crossed with."""
    made = bytearray(raw)
    for _ in range(1 + int(chance.random() ** 3 * 4)):
        size = len(made)
        at = int(chance.random() * (size + 1))
        kind = int(chance.random() * 10)
        if kind == 0 and size:
            made[at % size] ^= 1 << int(chance.random() * 8)
        elif kind == 1 and size:
            made[at % size] = int(chance.random() * 256)
        elif kind == 2:
            del made[at : at + 1 + int(chance.random() ** 2 * 24)]
        elif kind == 3:
            made[at:at] = ODD[int(chance.random() * len(ODD))]
        elif kind in (4, 5) and words:
            word = words[int(chance.random() * len(words))]
            made[at : at + (len(word) if kind == 4 else 0)] = word
        elif kind == 6:
            until = at + 1 + int(chance.random() * 48)
            made[at:at] = made[at:until] * (1 + int(chance.random() ** 4 * 40))
        elif kind == 7:
            start = int(chance.random() * (len(other) + 1))
            made[at : at + int(chance.random() * 32)] = other[start : start + int(chance.random() * 64)]
        elif kind == 8 and size:
            _renumber(chance, made, at % size)
        elif kind == 9 and chance.random() < 0.2:
            del made[at:]
    return bytes(made[:longest])


def _renumber(chance: random.Random, made: bytearray, at: int) -> None:
    """Changes the digits that come next: what is a number stays one."""
    while at < len(made) and not 48 <= made[at] <= 57:
        at += 1
    end = at
    while end < len(made) and 48 <= made[end] <= 57:
        end += 1
    if end > at:
        near = int(made[at:end][:9]) + int(chance.random() * 5) - 2
        made[at:end] = str(near if chance.random() < 0.7 else chance.getrandbits(70)).encode()


def feed(target: Target, cases: int, seed: int) -> Found:
    """Feeds a target that many cases, or up to the first that fails."""
    chance = random.Random(f"{seed}:{target.name}")
    corpus = list(target.samples)
    found = Found(target.name)
    started = time.perf_counter()
    raw = b""
    try:
        for sample in target.samples:
            found.outcomes.add(target.examine(sample))
        while found.cases < cases:
            # half of them from what is valid: what grew out of it is mostly broken already
            pool = target.samples if chance.random() < 0.5 else corpus
            raw = pool[int(chance.random() * len(pool))]
            other = corpus[int(chance.random() * len(corpus))]
            raw = mutate(chance, raw, other, target.words, target.longest)
            begun = time.perf_counter()
            outcome = target.examine(raw)
            took = time.perf_counter() - begun
            found.cases += target.weight
            if took > found.slowest_sec:
                found.slowest_sec = _again(target, raw) if took > SLOWEST_SEC else took
            if outcome not in found.outcomes:
                found.outcomes.add(outcome)
                if len(corpus) < CORPUS_AT_MOST:
                    corpus.append(raw)
    except Exception:  # noqa: BLE001 - any exception is what is looked for
        found.failure = f"{target.name}, seed {seed}, case {found.cases}: {raw!r}\n{traceback.format_exc()}"
    found.sec = time.perf_counter() - started
    return found


def _again(target: Target, raw: bytes) -> float:
    """A case that was slow is slow again, by this process's own time; else it was the machine."""
    begun = time.process_time()
    target.examine(raw)
    took = time.process_time() - begun
    assert took <= SLOWEST_SEC, f"took {took:.1f} s"
    return took
