"""Log events: one JSON object a line on stderr, or a coloured line on a terminal.

`log.get("part").info("service.down", svc=…)` logs one. Its keys are ts, level, event, agent, and then those
of the event. The caller decides which events are logged, and how often. Credentials in URLs are removed from
all values and tracebacks.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import orjson

from marketswarm.text import escape_json, escape_lines, escape_text, format_utc

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

    from marketswarm.settings import CommonSettings

    Logger: TypeAlias = FilteringBoundLogger

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
"""Matches the user and password in a URL, with the @."""


def configure(name: str, settings: CommonSettings | None = None) -> None:
    """Write all log events of this process, and warnings of other libraries, to stderr with `name` as agent.

    Without `settings` (the program ends before it could read them) the level is INFO.
    """
    from marketswarm.structlog_import import structlog  # noqa: PLC0415 - as in `_Logger`

    level = logging.getLevelNamesMapping()[settings.log_level if settings else "INFO"]
    log_format = settings.log_format if settings else None
    console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="ts")
        if console
        else structlog.processors.JSONRenderer(serializer=_encode_json)
    )
    filters: list[Processor] = [_remove_credentials, *([_escape_controls] if console else [])]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            partial(_add_header, name),
            *filters,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=False,
    )
    library_logger = logging.getLogger()
    library_logger.handlers = [_LibraryHandler()]
    library_logger.setLevel(logging.WARNING)  # below that, libraries log whole URLs


def get(name: str | None = None) -> Logger:
    """Return a logger. `name`, unless it is the agent's own, becomes the `part` of each line."""
    return cast("Logger", _Logger({"part": name} if name else {}))


class _Logger:
    """A logger that imports structlog when it is used first: few commands log anything, all would wait."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):  # no logger has one, and copy looks for some before `_values` is there
            raise AttributeError(method)
        from marketswarm.structlog_import import structlog  # noqa: PLC0415 - see above

        return getattr(structlog.get_logger(**self._values), method)


def _add_header(agent: str, _logger: Any, _method: str, event: EventDict) -> EventDict:
    """Put ts, level, event and agent before all other keys; a part that is the agent's own is left out."""
    first = {
        "ts": format_utc(time.time()),
        "level": event.pop("level", "info"),
        "event": event.pop("event", ""),
        "agent": agent,
    }
    if event.get("part") == agent:
        del event["part"]
    return {**first, **event}


class _StderrLogger:
    """A logger that writes lines to stderr and never fails: a closed stderr must not end the agent."""

    def __init__(self, *_args: Any) -> None:
        self.file: IO[bytes] | None = getattr(sys.stderr, "buffer", None)

    def msg(self, line: str | bytes) -> None:
        raw = line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")
        try:
            if self.file is None:  # a test or an embedder put a text stream there
                sys.stderr.write(raw.decode() + "\n")
            else:
                self.file.write(raw + b"\n")
                self.file.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = log = msg


class _LibraryHandler(logging.Handler):
    """A handler that turns the records of other libraries' `logging` into `library.message` events."""

    def emit(self, record: logging.LogRecord) -> None:
        from marketswarm.structlog_import import structlog  # noqa: PLC0415 - as in `_Logger`

        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong format string must not end us
            message = str(record.msg)
        logger = structlog.get_logger(source=record.name)
        logger.log(record.levelno, "library.message", message=message, exc_info=record.exc_info)


def _remove_credentials(_logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    return {key: _scrub_credentials(value) for key, value in event.items()}


def _escape_controls(_logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    """Escape the control characters in an event for a terminal; a traceback keeps its line ends."""
    return {
        escape_text(str(key)): escape_lines(value) if key == "exception" else _escape_value(value)
        for key, value in event.items()
    }


def _escape_value(value: Any) -> Any:
    """Return the value with each text in it escaped. Numbers and None stay, so that they are coloured."""
    if isinstance(value, str):
        return escape_text(value)
    if isinstance(value, (list, tuple)):
        return [_escape_value(item) for item in value]
    if isinstance(value, dict):
        return {_escape_value(key): _escape_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (int, float)) else escape_text(str(value))


def _scrub_credentials(value: Any) -> Any:
    """Return the value without the credentials of URLs in its texts; an exception becomes text."""
    if isinstance(value, str):
        return CREDENTIALS.sub("", value) if "://" in value else value
    if isinstance(value, BaseException):
        return _scrub_credentials(f"{type(value).__name__}: {value}")
    if isinstance(value, (list, tuple)):
        return [_scrub_credentials(item) for item in value]
    if isinstance(value, dict):
        return {key: _scrub_credentials(item) for key, item in value.items()}
    return value


def _encode_json(value: Any, **_options: Any) -> bytes:
    """Encode values of unknown types as text."""
    try:
        return escape_json(orjson.dumps(value, default=_format_value, option=orjson.OPT_NON_STR_KEYS))
    except TypeError:  # a lone surrogate or an integer over 64 bits: log all values as text
        return escape_json(orjson.dumps({str(key): _format_value(item) for key, item in value.items()}))


def _format_value(value: Any) -> str:
    """Return a text, or the `repr` of another value, without credentials and with escaped surrogates."""
    text = value if isinstance(value, str) else repr(value)
    return str(_scrub_credentials(text.encode("utf-8", "backslashreplace").decode()))
