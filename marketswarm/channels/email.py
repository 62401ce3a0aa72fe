"""Send each message as one mail over SMTP, as text and as HTML, in the thread of its outage.

The Message-ID is made from the message's id, and In-Reply-To from its thread, so a repeat has the same
ones. Nothing in a message can add a header, end the mail or format anything.
"""

import asyncio
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import Policy
from email.utils import format_datetime, getaddresses, parseaddr
from html import escape
from typing import Final, Self

import aiosmtplib
from pydantic import SecretStr

from marketswarm import log as logs
from marketswarm.channels.channel import Channel, ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.links import list_links
from marketswarm.channels.message import Message, MessageLink, choose_style, format_link, make_plain_key
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate, utf8_length
from marketswarm.settings import MailAddresses, Name, Port, Tls
from marketswarm.text import utc_datetime

SUBJECT_AT_MOST: Final = 200
TEXT_AT_MOST: Final = 20_000
LINES_AT_MOST: Final = 200_000
"""Bytes of the lines in a mail: some thousand lines, in a mail that any server accepts."""

_CELL: Final = 'style="border-top:1px solid #ddd;padding:4px 8px"'
_BUTTON: Final = 'style="border:1px solid #36a3eb;border-radius:4px;padding:6px 12px;text-decoration:none"'
WITHIN_SEC: Final = 15.0
"""How long one attempt may take, in seconds; a mail server may scan the mail and look up names."""
QUIT_WITHIN_SEC: Final = 1.0
LINE_AT_MOST: Final = 75
"""The length of a line of the subject, as of an encoded word (RFC 2047)."""
PARENTS_AT_MOST: Final = 10
"""How many earlier mails a mail may answer: it may say that outages of several conversations have ended."""
_DOT_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LITERAL: Final = re.compile(r"\[[!-Z^-~]{1,200}\]")
TOO_BIG: Final = 552
"""The code of a server that refuses a mail's announced size (RFC 1870)."""


def compose_mail(message: Message, sender: str, to: str, now: datetime) -> EmailMessage:
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail = EmailMessage()
    mail["Subject"] = _fold_text("Subject", truncate(printable_line(message.title), SUBJECT_AT_MOST))
    mail["From"] = sender
    mail["To"] = ", ".join(address for _, address in getaddresses([to]))
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = _fold_ids("Message-ID", _make_mail_id(message.id, domain))
    parents = [_make_mail_id(thread, domain) for thread in message.list_parents()[:PARENTS_AT_MOST]]
    if parents:
        mail["In-Reply-To"] = _fold_ids("In-Reply-To", *parents)
    if len(parents) == 1:  # RFC 5322 advises against it in an answer to several mails
        mail["References"] = _fold_ids("References", *parents)
    # mail filters sort by this header (RFC 2919)
    namespace = domain if re.fullmatch(r"[A-Za-z0-9.-]{1,200}", domain) else "localhost"
    mail["List-Id"] = _fold_ids("List-Id", f"MarketSwarm <marketswarm.{namespace}>")
    # automatic responders do not answer a mail with this header (RFC 3834)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_format_plain_text(message))
    mail.add_alternative(_format_html(message), subtype="html")
    return mail


class _FoldedHeader(str):
    """A header with its lines as they are sent; its value as text is what the lines mean.

    The library's own folding writes a long id as encoded words, which RFC 2047 forbids: a mail reader then
    finds no mail that this one answers. And its encoded words may be longer than the 75 characters allowed.
    """

    __slots__ = ("lines", "name")
    name: str
    lines: tuple[str, ...]

    def __new__(cls, name: str, value: str, *lines: str) -> Self:
        header = super().__new__(cls, value)
        header.name, header.lines = name, lines
        return header

    def fold(self, *, policy: Policy) -> str:
        """Return the header; the library calls this for a header that has a name."""
        return f"{self.name}: {f'{policy.linesep} '.join(self.lines)}{policy.linesep}"


def _fold_ids(name: str, *ids: str) -> _FoldedHeader:
    return _FoldedHeader(name, " ".join(ids), *ids)


def _fold_text(name: str, text: str) -> _FoldedHeader:
    """Return a header of text, in encoded words if it has other characters than ASCII."""
    is_plain = text.isascii() and "=?" not in text  # which would begin an encoded word
    folded = Header(text, "us-ascii" if is_plain else "utf-8", LINE_AT_MOST, name, errors="replace").encode()
    return _FoldedHeader(name, text, *(line.lstrip(" ") for line in folded.split("\n")))


def _make_mail_id(ident: str, domain: str) -> str:
    """Return the Message-ID for the id of a message; RFC 5322 has dots only between other characters."""
    key = make_plain_key(ident)
    left = key if _DOT_ATOM.fullmatch(key) else make_plain_key(f"{key} ")
    right = domain if _DOT_ATOM.fullmatch(domain) or _LITERAL.fullmatch(domain) else "localhost"
    return f"<{left}@{right}>"


def _format_plain_text(message: Message) -> str:
    links = "\n".join(map(format_link, list_links(message)))
    parts = [printable_line(message.title), _format_body(message), links, "\n".join(_list_lines(message))]
    return (
        "\n\n".join(part for part in (*parts, f"at {_format_time_sent(message)}\n{message.key}") if part)
        + "\n"
    )


def _format_html(message: Message) -> str:
    """Return the content of `_format_plain_text` as HTML: short lines, and a bar in the style's colour."""
    bar = f"border-left:6px solid #{choose_style(message).colour:06x};padding-left:10px"
    text = escape(_format_body(message)).replace("\n", "<br>\n")
    rows = "".join(f"<tr><td {_CELL}>\n{escape(line)}</td></tr>\n" for line in _list_lines(message))
    table = f'<table style="border-collapse:collapse">\n{rows}</table>\n' if rows else ""
    buttons = "".join(map(_format_button, list_links(message)))
    return (
        f'<!DOCTYPE html>\n<html><body style="font-family:sans-serif">\n'
        f'<h3 style="{bar}">\n{escape(printable_line(message.title))}</h3>\n<p>{text}</p>\n{buttons}{table}'
        f'<p style="color:#777">at {_format_time_sent(message)}<br>\n{escape(message.key)}</p>\n'
        "</body></html>\n"
    )


def _format_button(link: MessageLink) -> str:
    # a mail reader that shows no style shows a link all the same
    href, label = escape(link.url), escape(printable_line(link.label))
    return f'<p>\n<a {_BUTTON}\nhref="{href}">{label}</a></p>\n'


def _format_body(message: Message) -> str:
    return truncate(printable_lines(message.text), TEXT_AT_MOST, utf8_length)


def _list_lines(message: Message) -> list[str]:
    return fit_lines(message.lines, LINES_AT_MOST, utf8_length)


def _format_time_sent(message: Message) -> str:
    return utc_datetime(message.timestamp).isoformat(sep=" ", timespec="seconds")


log = logs.get("email")


class Options(ChannelOptions):
    """The server, the user, the sender and the recipients; the default of `port` depends on `tls`."""

    host: Name
    port: Port | None = None
    user: Name | None = None
    password: SecretStr | None = None
    sender: MailAddresses
    to: MailAddresses
    tls: Tls = "starttls"


class Email(Channel):
    """A channel that sends each message as one mail, over a connection of its own."""

    def __init__(
        self,
        name: str,
        options: Options,
        *,
        tls: ssl.SSLContext | None = None,
        within_sec: float = WITHIN_SEC,
    ) -> None:
        """`tls` replaces the system's trust store."""
        self.name = name
        self.where = options.host
        self._options = options
        self._tls = tls
        self.within_sec = within_sec

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - not needed
        """Raises SendError, unless one recipient is accepted; the others, which are refused, are logged."""
        mail = compose_mail(message, self._options.sender, self._options.to, datetime.now(UTC))
        try:
            refused, answer = await self._send_mail(mail)
        except TimeoutError:
            raise SendError("timeout") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise make_refusal_error(error) from None
        if refused:
            codes = sorted({code for code, _ in refused.values()})
            log.warning("email.some_refused", where=self.where, refused=len(refused), codes=codes)
        return Receipt(printable_line(answer)[:100])

    async def _send_mail(self, mail: EmailMessage) -> tuple[dict[str, aiosmtplib.SMTPResponse], str]:
        """Send a mail over a new connection; return the refused recipients and the server's answer."""
        options = self._options
        password = options.password
        client = aiosmtplib.SMTP(
            hostname=options.host,
            port=options.port,
            username=options.user,
            password=password.get_secret_value() if password and options.user else None,
            use_tls=options.tls == "tls",
            start_tls=options.tls == "starttls",
            tls_context=self._tls,
            # without it the library would look up this machine's full name, and wait for that
            local_hostname="[127.0.0.1]",
            timeout=self.within_sec,
        )
        try:
            async with asyncio.timeout(self.within_sec):
                await client.connect()
                return await client.send_message(mail)
        finally:
            await _end_session(client)


async def _end_session(client: aiosmtplib.SMTP) -> None:
    """Send QUIT, and close the connection.

    The library's own `send` fails if QUIT does, and so would send a mail again that the server has accepted.
    """
    try:
        with suppress(aiosmtplib.SMTPException, OSError):
            async with asyncio.timeout(QUIT_WITHIN_SEC):
                await client.quit()
    finally:
        client.close()


def make_refusal_error(error: Exception) -> SendError:
    """Return the SendError for an SMTP or network error.

    A 5xx code is permanent: about the message once the server has the mail or its size, otherwise about the
    channel.
    """
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [one.code for one in error.recipients]
        lasting = all(code >= 500 for code in codes)
        return SendError(str(max(codes, default=0)), Failure.BROKEN if lasting else Failure.TEMPORARY)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        if error.code < 500:
            return SendError(str(error.code))
        of_message = isinstance(error, aiosmtplib.SMTPDataError) or error.code == TOO_BIG
        return SendError(str(error.code), Failure.REJECTED if of_message else Failure.BROKEN)
    chain = (error, error.__cause__, error.__context__)
    if any(isinstance(link, ssl.SSLError) for link in chain):
        return SendError("tls")
    if any(isinstance(link, TimeoutError) for link in chain):
        return SendError("timeout")
    if type(error) is aiosmtplib.SMTPException:
        # the library's error for a server without STARTTLS or AUTH, which an attacker may have hidden
        return SendError("no_starttls" if "STARTTLS" in str(error) else "no_auth")
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return SendError("not_supported", Failure.BROKEN)
    if isinstance(error, OSError):
        return SendError("refused" if isinstance(error, aiosmtplib.SMTPConnectError) else "broken")
    return SendError(f"bad_mail ({type(error).__name__})", Failure.REJECTED)
