"""Send each message as one mail over SMTP, as text and as HTML, in the thread of its outage.

The Message-ID is made from the message's id, and In-Reply-To from its thread, so a repeat has the same
ones. Nothing in a message can add a header, end the mail or format anything.
"""

import asyncio
import re
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, parseaddr
from html import escape
from typing import Final

import aiosmtplib
from pydantic import SecretStr

from marketswarm import log as logs
from marketswarm.channels.channel import Channel, ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.message import Message, choose_style, make_plain_key
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate, utf8_length
from marketswarm.settings import MailAddresses, Name, Port, Tls
from marketswarm.text import utc_datetime

SUBJECT_AT_MOST: Final = 200
TEXT_AT_MOST: Final = 20_000
LINES_AT_MOST: Final = 200_000
"""Bytes of the lines in a mail: some thousand lines, in a mail that any server accepts."""

_CELL: Final = 'style="border-top:1px solid #ddd;padding:4px 8px"'
WITHIN_SEC: Final = 15.0
"""How long one attempt may take, in seconds; a mail server may scan the mail and look up names."""
TOO_BIG: Final = 552
"""The code of a server that refuses a mail's announced size (RFC 1870)."""


def compose_mail(message: Message, sender: str, to: str, now: datetime) -> EmailMessage:
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail = EmailMessage()
    mail["Subject"] = truncate(printable_line(message.title), SUBJECT_AT_MOST)
    mail["From"] = sender
    mail["To"] = ", ".join(address for _, address in getaddresses([to]))
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    if not message.begins:
        first = f"<{make_plain_key(message.thread)}@{domain}>"
        mail["In-Reply-To"] = first
        mail["References"] = first
    # mail filters sort by this header (RFC 2919)
    mail["List-Id"] = f"MarketSwarm <marketswarm.{_make_namespace(domain)}>"
    # automatic responders do not answer a mail with this header (RFC 3834)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_format_plain_text(message))
    mail.add_alternative(_format_html(message), subtype="html")
    return mail


def _format_plain_text(message: Message) -> str:
    parts = [printable_line(message.title), _format_body(message), "\n".join(_list_lines(message))]
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
    return (
        f'<!DOCTYPE html>\n<html><body style="font-family:sans-serif">\n'
        f'<h3 style="{bar}">\n{escape(printable_line(message.title))}</h3>\n<p>{text}</p>\n{table}'
        f'<p style="color:#777">at {_format_time_sent(message)}<br>\n{escape(message.key)}</p>\n'
        "</body></html>\n"
    )


def _format_body(message: Message) -> str:
    return truncate(printable_lines(message.text), TEXT_AT_MOST, utf8_length)


def _list_lines(message: Message) -> list[str]:
    return fit_lines(message.lines, LINES_AT_MOST, utf8_length)


def _format_time_sent(message: Message) -> str:
    return utc_datetime(message.timestamp).isoformat(sep=" ", timespec="seconds")


def _make_namespace(domain: str) -> str:
    return domain if re.fullmatch(r"[A-Za-z0-9.-]{1,200}", domain) else "localhost"


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
            async with asyncio.timeout(self.within_sec):
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
        return await aiosmtplib.send(
            mail,
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
