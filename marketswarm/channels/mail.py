"""A message as a mail: text and HTML that say the same, in the thread of what it belongs to. Pure.

Its Message-ID is made from the message's id, and the one that it answers from its thread's: both are the same
however often it is sent. Nothing in a message can add a header, end the mail or format anything.
"""

import re
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, parseaddr
from html import escape
from typing import Final

from marketswarm.channels.body import when
from marketswarm.channels.fitting import cut, fit, octets, paragraph, plain
from marketswarm.channels.look import look_of
from marketswarm.channels.message import Message, plain_key

SUBJECT_AT_MOST: Final = 200
TEXT_AT_MOST: Final = 20_000
LINES_AT_MOST: Final = 200_000
"""Bytes of what a message tells in lines: some thousands of them, in a mail that any server takes."""

_CELL: Final = 'style="border-top:1px solid #ddd;padding:4px 8px"'


def mail_of(message: Message, sender: str, to: str, now: datetime) -> EmailMessage:
    """The mail, sent at `now`."""
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail = EmailMessage()
    mail["Subject"] = cut(plain(message.title), SUBJECT_AT_MOST)
    mail["From"] = sender
    mail["To"] = ", ".join(address for _, address in getaddresses([to]))
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    if not message.begins:
        first = f"<{plain_key(message.thread)}@{domain}>"
        mail["In-Reply-To"] = first
        mail["References"] = first
    # what people sort by (RFC 2919)
    mail["List-Id"] = f"MarketSwarm <marketswarm.{_namespace(domain)}>"
    # machines that answer mail by themselves leave this one alone (RFC 3834)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_text(message))
    mail.add_alternative(_html(message), subtype="html")
    return mail


def _text(message: Message) -> str:
    """The text, what it tells of, and when it happened."""
    parts = [plain(message.title), _told(message), "\n".join(_lines(message))]
    return "\n\n".join(part for part in (*parts, f"at {_at(message)}\n{message.key}") if part) + "\n"


def _html(message: Message) -> str:
    """The same, with a bar in the colour of its severity; in lines so short that nothing has to wrap them."""
    bar = f"border-left:6px solid #{look_of(message).colour:06x};padding-left:10px"
    told = escape(_told(message)).replace("\n", "<br>\n")
    rows = "".join(f"<tr><td {_CELL}>\n{escape(line)}</td></tr>\n" for line in _lines(message))
    table = f'<table style="border-collapse:collapse">\n{rows}</table>\n' if rows else ""
    return (
        f'<!DOCTYPE html>\n<html><body style="font-family:sans-serif">\n'
        f'<h3 style="{bar}">\n{escape(plain(message.title))}</h3>\n<p>{told}</p>\n{table}'
        f'<p style="color:#777">at {_at(message)}<br>\n{escape(message.key)}</p>\n</body></html>\n'
    )


def _told(message: Message) -> str:
    return cut(paragraph(message.text), TEXT_AT_MOST, octets)


def _lines(message: Message) -> list[str]:
    return fit([plain(line) for line in message.lines], LINES_AT_MOST, octets)


def _at(message: Message) -> str:
    return when(message.timestamp).isoformat(sep=" ", timespec="seconds")


def _namespace(domain: str) -> str:
    """The sender's domain, where it is one: an address in brackets can't be part of a name."""
    return domain if re.fullmatch(r"[A-Za-z0-9.-]{1,200}", domain) else "localhost"
