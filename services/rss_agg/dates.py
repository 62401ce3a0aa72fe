"""Read the dates of feeds, whatever form they have. Pure.

A date without a zone is in UTC. Zones by name are those of the table below; another name counts as UTC, as
RFC 5322 has it. Where a name means several zones, it is the one with the most readers of markets: `CST` is in
Chicago, `BST` in London, `IST` in India.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

# fmt: off
ZONES: Final = {
    "WEST": "+0100", "BST": "+0100", "CET": "+0100", "MEZ": "+0100", "MET": "+0100", "WAT": "+0100",
    "CEST": "+0200", "MESZ": "+0200", "MEST": "+0200", "EET": "+0200", "SAST": "+0200", "CAT": "+0200",
    "EEST": "+0300", "MSK": "+0300", "TRT": "+0300", "EAT": "+0300",
    "GST": "+0400", "PKT": "+0500", "IST": "+0530", "ICT": "+0700", "WIB": "+0700",
    "SGT": "+0800", "HKT": "+0800", "MYT": "+0800", "PHT": "+0800", "AWST": "+0800",
    "JST": "+0900", "KST": "+0900", "ACST": "+0930", "ACDT": "+1030", "AEST": "+1000", "AEDT": "+1100",
    "NZST": "+1200", "NZDT": "+1300",
    "ART": "-0300", "BRT": "-0300", "CLT": "-0400", "COT": "-0500",
    "EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700", "MDT": "-0600",
    "PST": "-0800", "PDT": "-0700", "AKST": "-0900", "AKDT": "-0800", "HST": "-1000",
}
# fmt: on
"""By the name of a zone, how far it is before UTC."""
MAX_LENGTH: Final = 100
_EPOCH_SEC: Final = re.compile(r"\d{10}(\.\d{1,9})?")
_EPOCH_MS: Final = re.compile(r"\d{13}")
_NAMED_ZONE: Final = re.compile(r"(?<=\d)\s{0,3}\(?([A-Za-z]{3,4})\)?$")


def read_date(value: Any, parsed: Sequence[int] | None = None) -> str:
    """Return a date as ISO 8601 in UTC, to the second; an empty text if it can't be understood.

    `value` is a text, or a number of seconds or milliseconds since 1970; `parsed` is what feedparser made of
    it, in UTC: year, month, day, hour, minute, second.
    """
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if len(text) > MAX_LENGTH:
        return ""
    try:
        if _EPOCH_SEC.fullmatch(text) or _EPOCH_MS.fullmatch(text):
            sec = float(text) if len(text.partition(".")[0]) == 10 else int(text) / 1000
            return _format(datetime.fromtimestamp(sec, UTC))
        zone = _NAMED_ZONE.search(text)
        if zone is not None and (offset := ZONES.get(zone[1].upper())) is not None:
            return _format(_parse(f"{text[: zone.start()]} {offset}"))
        if parsed is not None:
            year, month, day, hour, minute, second = parsed[:6]
            return _format(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
        return _format(_parse(text))
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return ""


def _parse(text: str) -> datetime:
    """Return the date in a text of ISO 8601 or RFC 5322. Raises ValueError, and what that parser raises."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)


def _format(date: datetime) -> str:
    known = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return known.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
