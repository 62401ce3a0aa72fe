"""Make templates of lines of logs, and know which were seen before. Pure.

The template of `{"event":"feed.failed","url":"https://a.example/x","status":502}` is
`feed.failed url=<url> status=<n>`: numbers, addresses, names of files, identifiers, quoted text and secrets
are replaced, so that lines which differ in nothing else are one kind of line. What a line says is data: it is
shown, and nothing else is done with it.
"""

import re
from itertools import islice
from typing import Any, Final

from marketswarm.bus.stored_values import parse_object
from marketswarm.text import escape_text

MAX_LINE_BYTES: Final = 16_384
"""The part of a line that is looked at."""
MAX_TEMPLATE_CHARS: Final = 400
MAX_VALUE_CHARS: Final = 200
MAX_FIELDS: Final = 24
MAX_SHOWN_CHARS: Final = 160
"""How much of a template is shown to people."""
OPEN_AFTER: Final = 3
"""With so many values of one word, and all others the same, that word stands for anything."""
MAX_WORDS: Final = 12
"""The number of words of a template that may come to stand for anything."""

_HEADER: Final = frozenset({"ts", "level", "event", "agent", "line", "exception"})
_ERROR_LEVELS: Final = frozenset({"error", "critical", "fatal"})
_OTHER_TEXT: Final = "program.output"
"""The event of a line that is not a log line; its field `line` is the text."""
_ERROR_WORDS: Final = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL|PANIC)\b|^Traceback |^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b"
)
_SENSITIVE: Final = (
    r"\b(?:\w{0,30}(?:password|passwd|secret|token|api_?key)|authorization|bearer)"
    r"[\"']?[=:\ ]{1,3}(?:(?:basic|bearer)\ )?\S+"
)
_SECRET: Final = re.compile(_SENSITIVE, re.IGNORECASE)
# no two neighbours of a pattern match the same text, so that none takes long for any line
_VARIABLE: Final = re.compile(
    rf"""
      (?P<url>\b[a-z][a-z0-9+.-]{{1,15}}://[^\s"'<>]+)
    | (?P<secret>{_SENSITIVE})
    | (?P<text>"[^"]*"|(?<!\w)'[^']*'(?!\w))
    | (?P<time>\b\d{{4}}-\d\d-\d\d[T\ ]\d\d:\d\d[\d:.,]*(?:Z\b|[+-]\d\d:?\d\d)?)
    | (?P<id>\b[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}\b
        |\b(?:0x[0-9a-f]+|(?=[a-f]*\d)[0-9a-f]{{8,}}|(?=[a-z_]*\d)[\w]{{20,}})\b)
    | (?P<path>(?<!\w)~?(?:/[\w.@%+~:-]+){{2,}}/?)
    | (?P<n>[+-]?\d[\d.,:]*)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def make_template(line: bytes) -> tuple[str, bool]:
    """Return the template of a line, and whether the line is about an error."""
    found = parse_object(line) if line.startswith(b"{") and len(line) <= MAX_LINE_BYTES else {}
    event, text = found.get("event"), found.get("line")
    if not isinstance(event, str):
        return _mask_text(line[:MAX_LINE_BYTES].decode("utf-8", "replace"))
    if event == _OTHER_TEXT and isinstance(text, str):
        return _mask_text(text)
    error = found.get("exception")
    fields = ((name, value) for name, value in islice(found.items(), MAX_FIELDS) if name not in _HEADER)
    words = [event[:MAX_VALUE_CHARS], *(f"{name}={_mask_value(value)}" for name, value in fields)]
    if isinstance(error, str) and error.strip():
        words.append(_mask(error[-4 * MAX_VALUE_CHARS :].strip().splitlines()[-1]))
    # once more, since the name of a field may say that its value is a secret
    template = _SECRET.sub("<secret>", " ".join(words)[:MAX_TEMPLATE_CHARS])
    return template, found.get("level") in _ERROR_LEVELS or error is not None


def show_template(template: str) -> str:
    """Return a template for people: on one line, without control characters, and not long."""
    text = escape_text(template[:MAX_SHOWN_CHARS])[:MAX_SHOWN_CHARS]
    return f"{text}…" if len(template) > MAX_SHOWN_CHARS else text


def _mask_text(text: str) -> tuple[str, bool]:
    return _mask(text), _ERROR_WORDS.search(text[:MAX_TEMPLATE_CHARS]) is not None


def _mask_value(value: Any) -> str:
    if isinstance(value, str):
        return _mask(value[:MAX_VALUE_CHARS])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "<n>"
    return f"<{type(value).__name__}>" if isinstance(value, dict | list) else str(value)


def _mask(text: str) -> str:
    return _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", text[:MAX_TEMPLATE_CHARS])


class TemplateMemory:
    """The templates of one log that were seen, `most` at most; `is_full` says that there were more."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: set[str] = set()
        self._values: dict[int, int] = {}  # by a template without one of its words: how many values that had
        self.is_full = False

    def add(self, template: str) -> bool:
        """Return True if the template is new: it was not seen, and is not known but for one word."""
        if template in self._known:
            return False
        if len(self._known) >= self.most:
            self.is_full = True
            return False
        self._known.add(template)
        words = template.split()
        is_variant = False
        for at in range(1, min(len(words), MAX_WORDS)):  # the first word is the event
            rest = hash((at, *words[:at], *words[at + 1 :]))
            count = self._values.get(rest, 0)
            self._values[rest] = count + 1
            is_variant = is_variant or count >= OPEN_AFTER
        return not is_variant
