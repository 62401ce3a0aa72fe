"""Remove secrets from text before it leaves the fleet. Pure, but for `list_secrets`, which may read files.

`secret_rules.py` has the rules. Where it is not clear, text is removed: a diagnosis can do without it. Names,
times and sentences stay.

The text is hostile: whoever writes a log chooses it. So lines are cut first, some of them are searched at a
time, each expression takes time that grows as its text, and who calls may end it between two pieces.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from marketswarm.exit import Exit
from marketswarm.secret_rules import (
    ASSIGNED_QUOTED,
    BLOCK_BEGIN,
    REMOVED,
    RULES,
    fold_case,
    has_mixed_kinds,
    keep_harmless,
    looks_random,
)
from marketswarm.settings import read_variable
from marketswarm.truth.credentials import is_secret_key

MAX_TEXT: Final = 30_000
"""The longest text that is looked at."""
MAX_RAW_LINE: Final = 8000
"""The longest line that is read, while a text in JSON is one line."""
MAX_LINE: Final = 2000
"""The longest line in which secrets are looked for; the rest of a longer one is left out."""
BLOCK: Final = 4000
"""So much is searched at a time, in characters: whole lines, twice as much where lines belong together."""
LEFT_OUT: Final = "[lines are left out here: there was no time to remove secrets from them]"
MAX_QUOTED: Final = 3
"""So often a text may have been quoted: a log line in JSON, of a document, in a difference of two truths."""
LEAST_LITERAL: Final = 5
"""Shorter values of secret variables are not looked for: they would remove parts of words."""
NOT_SECRET: Final = frozenset({"TRUTH_REDIS_KEY"})
"""Variables that have the name of a secret, and hold none: this one is the name of a key in Redis."""
_ESCAPE: Final = re.compile(r"\\(?:([nrt\"\\/])|(?:u00|x)([0-7][0-9A-Fa-f]))")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}
_KEY_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File")
_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?(?:-----)?|Private-MAC:[^\n]*")
_KEY_SIGNS: Final = ("-----", "PuTTY-")
"""The beginning or the end of a key has one of these."""
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY")
_PEM_SIGNS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\ \t\r\n"
_SPLIT: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_.-])([A-Za-z0-9+/=_.-]{6,512}+)(\n[ \t]{0,20})"
    r"([A-Za-z0-9+/_.-]{3,512}+={0,2})(?=[\s\"',;)}\]]|$)"
)
"""Two lines between which a token may be split."""
_LEVEL: Final = re.compile(r"TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|PANIC|Traceback")
_WIDTHLESS: Final = dict.fromkeys(
    map(ord, "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff")
)
"""Characters that no one sees, which may stand within a word."""
_BLOCK_SIGNS: Final = tuple("|>+-123456789")
_GOES_ON: Final = tuple("=:|>\\,({[")
_GOES_ON_IN: Final = (" ", "\t", "$")


class Redactor:
    """Remove secrets from text.

    Args:
        secrets: values that are known to be secret, such as those of our own environment.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {each.strip() for each in secrets}
        forms = set[str]()
        for each in known:  # as it stands in a text, in a URL, in JSON and in Python
            forms |= {each, quote(each, safe=""), json.dumps(each)[1:-1], repr(each)[1:-1]}
        longest_first = sorted((form for form in forms if len(form) >= LEAST_LITERAL), key=len, reverse=True)
        self._literals = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        packed = ["".join(form.split()) for form in longest_first]
        self._packed = re.compile("|".join(re.escape(form) for form in packed if len(form) >= LEAST_LITERAL))

    def redact(self, text: str, at_most: int = MAX_TEXT, is_late: Callable[[], bool] = lambda: False) -> str:
        """Return a text with REMOVED in the place of each secret in its first `at_most` characters.

        Escapes of JSON are undone, and long lines cut. `is_late` is asked between pieces of milliseconds:
        once it returns True, what was not searched is left out, and LEFT_OUT says so. The last lines are
        searched first, since they are worth the most.
        """
        lines = list[str]()
        for raw in _cut(text, at_most).translate(_WIDTHLESS).split("\n"):
            if is_late():
                lines.append(LEFT_OUT)
                break
            # a text in JSON has lines of its own
            lines += [
                _cut_line(line, MAX_LINE) for line in self._unescape(_cut_line(raw, MAX_RAW_LINE)).split("\n")
            ]
        found = list[str]()
        for block in reversed(list(_group_lines(_remove_blocks(_remove_keys(_join_continued(lines)))))):
            if is_late():
                found.append(LEFT_OUT)
                break
            found.append(self._redact_block(block))
        return "\n".join(reversed(found))

    def redact_code(self, text: str, is_late: Callable[[], bool] = lambda: False) -> str:
        """Return a text as it stands if nothing is to be removed from it, otherwise what `redact` returns.

        So a secret is found that only shows in what escapes or several lines make, and code that has none
        still is that code.
        """
        found = self.redact(text, is_late=is_late)
        is_searched = len(text) <= MAX_TEXT and all(len(line) <= MAX_LINE for line in text.split("\n"))
        return text if is_searched and REMOVED not in found and LEFT_OUT not in found else found

    def _redact_block(self, text: str) -> str:
        text = self._remove_known(_SPLIT.sub(_remove_split, self._remove_known_over_lines(text)))
        folded = fold_case(text)
        for rule in RULES.values():
            if rule.may_change(folded):
                changed = rule.pattern.sub(rule.replacement, text)
                if changed != text:
                    text, folded = changed, fold_case(changed)
        return text

    def _unescape(self, text: str) -> str:
        """Return a text with the escapes of JSON undone, for up to MAX_QUOTED texts inside of each other.

        Each of these texts is searched for known secrets, since one with a backslash stands only in one.
        """
        text = self._remove_known(text)
        for _ in range(MAX_QUOTED):
            if "\\" not in text:
                break
            text, count = _ESCAPE.subn(_read_escape, ASSIGNED_QUOTED.sub(keep_harmless, text))
            if not count:
                break
            text = self._remove_known(text)
        return text

    def _remove_known_over_lines(self, text: str) -> str:
        """Remove known secrets that are split over several lines."""
        if self._literals is None or "\n" not in text:
            return text
        places = [at for at, sign in enumerate(text) if not sign.isspace()]
        spans = []
        for match in self._packed.finditer("".join(text[at] for at in places)):
            start, end = places[match.start()], places[match.end() - 1] + 1
            if "\n" in text[start:end]:
                spans.append((start, end))
        for start, end in reversed(spans):
            text = text[:start] + REMOVED + text[end:]
        return text

    def _remove_known(self, text: str) -> str:
        return text if self._literals is None else self._literals.sub(REMOVED, text)


def _cut(text: str, at_most: int) -> str:
    """Return the begin of a text, without the word that is cut: a part of a secret has no form."""
    if len(text) <= at_most:
        return text
    kept = text[:at_most]
    return kept[: len(kept) - len(re.split(r"\s", kept)[-1])]


def _read_escape(match: re.Match[str]) -> str:
    return chr(int(match[2], 16)) if match[2] else _ESCAPED.get(match[1], match[1])


def _cut_line(line: str, at_most: int) -> str:
    """Return the begin of a line; where a private key ends in what is left out, that is said."""
    if len(line) <= at_most:
        return line
    end = _PEM_END.search(line, at_most)
    return _cut(line, at_most) + (f" {end[0]}" if end else "")


def _join_continued(lines: Iterable[str]) -> list[str]:
    """Return lines, each that ends in a backslash with the next one behind it, up to MAX_LINE characters."""
    found = list[str]()
    goes_on = False
    for line in lines:
        if goes_on and len(found[-1]) + len(line) < MAX_LINE:
            found[-1] = f"{found[-1].rstrip()[:-1]} {line.lstrip()}"
        else:
            found.append(line)
        goes_on = line.rstrip().endswith("\\")
    return found


def _remove_keys(lines: Sequence[str]) -> Sequence[str]:
    """Remove private keys, which have several lines, also one whose begin or end is not in the text."""
    has_key = any(sign in line for line in lines for sign in _KEY_SIGNS)
    return _remove_key_lines(lines) if has_key else lines


def _remove_key_lines(lines: Sequence[str]) -> list[str]:
    found = list[str]()
    is_inside = False
    for line in lines:
        kept, at = "", 0
        while True:
            if is_inside:
                end = _KEY_END.search(line, at)
                if end is None:
                    break
                is_inside, at = False, end.end()
            begin = _KEY_BEGIN.search(line, at)
            end = _PEM_END.search(line, at, len(line) if begin is None else begin.start())
            if end is not None:  # the first lines of this one are not here
                kept = (kept + line[at : end.start()]).rstrip(_PEM_SIGNS)
                while not kept and found and not found[-1].strip(_PEM_SIGNS):
                    found.pop()
                if not kept and found:
                    found[-1] = found[-1].rstrip(_PEM_SIGNS)
                kept, at = kept + REMOVED, end.end()
                continue
            if begin is None:
                kept += line[at:]
                break
            kept += line[at : begin.start()] + REMOVED
            is_inside, at = True, begin.end()
        if kept or (not is_inside and not at):
            found.append(kept)
    return found


def _remove_blocks(lines: Iterable[str]) -> Iterator[str]:
    """Remove texts of several lines in YAML whose key has the name of a secret."""
    indent: int | None = None
    for line in lines:
        own = len(line) - len(line.lstrip())
        if indent is not None and (own > indent or not line.strip()):
            yield line if not line.strip() else line[:own] + REMOVED
            continue
        may_begin = ("|" in line or ">" in line) and line.rstrip().endswith(_BLOCK_SIGNS)
        indent = own if may_begin and BLOCK_BEGIN.search(line) else None
        yield line


def _group_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines in blocks, so that those which may belong together are in one."""
    block, size = list[str](), 0
    for line in lines:
        belongs = bool(block) and (block[-1].rstrip().endswith(_GOES_ON) or line.startswith(_GOES_ON_IN))
        if size + len(line) > (2 * BLOCK if belongs else BLOCK) and block:
            yield "\n".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line) + 1
    if block:
        yield "\n".join(block)


def _remove_split(match: re.Match[str]) -> str:
    """Remove a token that is split over two lines."""
    first, between, rest = match.groups()
    is_alone = match.string[match.end() : match.end() + 1] in ("", "\n")
    if _LEVEL.fullmatch(rest) or not (is_alone or has_mixed_kinds(rest)):
        return match[0]
    known = RULES["known"].pattern.search(first + rest)
    is_known = known is not None and known.start() < len(first) < known.end()
    is_random = has_mixed_kinds(first) and has_mixed_kinds(rest) and looks_random(first + rest)
    return f"{REMOVED}{between}{REMOVED}" if is_known or is_random else match[0]


def list_secrets(environ: Mapping[str, str], key: Any = None) -> list[str]:
    """Return the values of our own environment that are secret, which are removed wherever they are.

    The value of X may stand in the file that `X_FILE` names. A file that can't be read is left out.
    """
    found = [] if key is None else [str(key.get_secret_value())]
    for name, value in environ.items():
        base = name.removesuffix("_FILE")
        text = _read_file(base, environ) if base != name and not environ.get(base) else ""
        found += _find_secrets(base, text) if text else _find_secrets(name, value)
    return found


def _find_secrets(name: str, value: str) -> list[str]:
    """Return what is secret of the value of a variable."""
    if name in NOT_SECRET or not value:
        return []
    if is_secret_key(name) or name.endswith("_KEY"):
        return [value]
    if "://" not in value or "@" not in value:
        return []
    try:
        password = urlsplit(value).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _read_file(name: str, environ: Mapping[str, str]) -> str:
    """Return the text of the file that `<name>_FILE` names, empty if it can't be read.

    Only a regular file is read: a pipe has no end while its writer lives.
    """
    try:
        is_regular = Path(environ[f"{name}_FILE"]).is_file()
        return (read_variable(name, environ) or "") if is_regular else ""
    except (Exit, OSError, ValueError):  # its folder is not ours to look into, or the name can't be one
        return ""
