"""Make hostile texts for a regular expression out of its own words, and measure how its time grows with them.

For each repetition of a pattern: what stands before it, and then its own body again and again. For each
alternative: an example of the whole pattern with it, with and without its end, again and again.
"""

import re
import time
from collections.abc import Callable, Iterator
from itertools import islice
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

LENGTHS: Final = (1500, 6000)
"""How long the first texts are; what is quick for the longest too can't be quadratic."""
QUICK_SEC_A_CHAR: Final = 2e-6
"""What takes less is quick: a fast machine needs about so long for each of 1,500 quadratic characters."""
SLOW_SEC: Final = 0.5
"""What takes longer for a first text is not doubled any more: it can't be linear."""
ROUNDS: Final = 3
"""How often two lengths are compared, in turns: the shortest time of each is the least disturbed one."""
LEAST_REPEAT: Final = 20
"""A repetition of fewer times is no danger."""
_SIGNS: Final = "aA0 .-_/=:\"'\\@x+,;<>[](){}#$%&!?*~|^`\t\nz9é"
_REPEATS: Final = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_ASSERTS: Final = (codes.ASSERT, codes.ASSERT_NOT)

Text = Callable[[int], Any]
"""Returns a hostile text of about so many characters, or bytes."""


def list_hostile(pattern: re.Pattern[Any]) -> list[Text]:
    """Return what makes hostile texts for a pattern, as text or bytes as it takes them."""
    raw = pattern.pattern
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    flags = pattern.flags & ~(re.DEBUG | (re.UNICODE if isinstance(raw, bytes) else 0))
    tree = parser.parse(raw if isinstance(raw, bytes) else text, flags)
    pieces = dict.fromkeys(_list_pieces(tree))
    return [_make(before, piece, end, isinstance(raw, bytes)) for before, piece, end in pieces if piece]


def find_superlinear(run: Callable[[Any], object], texts: list[Text], least_ratio: float = 3.0) -> list[str]:
    """Return the begin of the first text whose time grows by `least_ratio` for each of two doublings."""
    found = (text(60)[:60] for text in texts if _is_superlinear(run, text, least_ratio))
    return list(islice(found, 1))


def _is_superlinear(run: Callable[[Any], object], text: Text, least_ratio: float) -> bool:
    for size in LENGTHS:
        took = _measure(run, text(size))
        if took >= SLOW_SEC:
            return True
        if took >= QUICK_SEC_A_CHAR * size:
            break
    else:
        return False
    rounds = [(_measure(run, text(size)), _measure(run, text(4 * size))) for _ in range(ROUNDS)]
    least = min(first for first, _ in rounds)
    return min(last for _, last in rounds) >= least_ratio**2 * least


def _measure(run: Callable[[Any], object], text: Any) -> float:
    began = time.thread_time()
    run(text)
    return time.thread_time() - began


def _make(before: str, piece: str, end: str, is_bytes: bool) -> Text:
    def text(size: int) -> Any:
        made = before + piece * (size // len(piece) + 1) + end
        return made.encode("utf-8", "replace") if is_bytes else made

    return text


def _list_pieces(tree: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what stands first, what is repeated, and what ends the text."""
    for whole in _list_examples(tree):
        for piece in (whole, whole[:-1]):
            yield "", piece, ""
    for before, body in _list_repeats(list(tree), ""):
        yield before, body, "\0"
        yield "", before + body, ""
        yield "", body, "\0"


def _list_repeats(items: list[Any], before: str) -> Iterator[tuple[str, str]]:
    """Yield each repetition without a low limit: an example of what stands before it, and one of its body."""
    for op, value in items:
        if op in _REPEATS:
            _, most, body = value
            if most >= LEAST_REPEAT:
                for example in _list_examples(body):
                    yield before, example
            yield from _list_repeats(list(body), before)
        elif op is codes.SUBPATTERN:
            yield from _list_repeats(list(value[-1]), before)
        elif op is codes.BRANCH:
            for each in value[1]:
                yield from _list_repeats(list(each), before)
        elif op is codes.ATOMIC_GROUP:
            yield from _list_repeats(list(value), before)
        elif op in _ASSERTS:
            yield from _list_repeats(list(value[1]), before)
        before += _show([(op, value)])


def _list_examples(tree: Any) -> Iterator[str]:
    """Yield an example of a pattern, and one with each other alternative and sign of a class."""
    items = list(tree)
    yield _show(items)
    for at, (op, value) in enumerate(items):
        before, after = _show(items[:at]), _show(items[at + 1 :])
        if op is codes.BRANCH:
            others = [each for branch in value[1] for each in _list_examples(branch)]
        elif op is codes.IN:
            others = _list_signs(value)[1:4]
        elif op is codes.SUBPATTERN:
            others = list(_list_examples(value[-1]))[1:]
        elif op is codes.ATOMIC_GROUP:
            others = list(_list_examples(value))[1:]
        elif op in _REPEATS and value[1]:
            others = [each * max(1, value[0]) for each in _list_examples(value[2])][1:]
        else:
            others = []
        for other in others:
            yield before + other + after


def _show(items: list[Any]) -> str:
    """Return an example of what a pattern matches."""
    return "".join(_show_one(op, value) for op, value in items)


def _show_one(op: Any, value: Any) -> str:
    if op is codes.LITERAL:
        return chr(value)
    if op is codes.NOT_LITERAL:
        return "a" if chr(value) != "a" else "b"
    if op is codes.ANY:
        return "a"
    if op is codes.IN:
        return _list_signs(value)[0]
    if op is codes.BRANCH:
        return _show(list(value[1][0]))
    if op is codes.SUBPATTERN:
        return _show(list(value[-1]))
    if op is codes.ATOMIC_GROUP:
        return _show(list(value))
    if op in _REPEATS:
        least, most, body = value
        return _show(list(body)) * (max(1, least) if most else 0)
    return ""  # places and what looks around


def _list_signs(items: Any) -> list[str]:
    """Return signs that a class takes, of as many kinds as there are."""
    signs = [chr(items[0][1])] if items[0][0] is codes.LITERAL else []
    signs += [sign for sign in _SIGNS if _takes(items, sign)]
    return list(dict.fromkeys(signs)) or [chr(v[0] if op is codes.RANGE else v) for op, v in items[-1:]]


def _takes(items: Any, sign: str) -> bool:
    is_negated = items[0][0] is codes.NEGATE
    return any(_takes_one(op, value, sign) for op, value in items) != is_negated


def _takes_one(op: Any, value: Any, sign: str) -> bool:
    if op is codes.LITERAL:
        return ord(sign) == value
    if op is codes.RANGE:
        return bool(value[0] <= ord(sign) <= value[1])
    if op is codes.CATEGORY:
        kind = {
            codes.CATEGORY_DIGIT: sign.isdigit(),
            codes.CATEGORY_SPACE: sign.isspace(),
            codes.CATEGORY_WORD: sign.isalnum() or sign == "_",
        }
        for category, found in kind.items():
            if value is category:
                return found
        opposite = {
            codes.CATEGORY_NOT_DIGIT: codes.CATEGORY_DIGIT,
            codes.CATEGORY_NOT_SPACE: codes.CATEGORY_SPACE,
            codes.CATEGORY_NOT_WORD: codes.CATEGORY_WORD,
        }
        return value in opposite and not kind[opposite[value]]
    return False
