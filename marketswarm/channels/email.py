"""Mail over SMTP, one a message. Not here: what is in it (`mail.py`)."""

import asyncio
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Final

import aiosmtplib
from pydantic import BaseModel, ConfigDict, SecretStr

from marketswarm import log as logs
from marketswarm.channels.fitting import plain
from marketswarm.channels.mail import mail_of
from marketswarm.channels.message import Channel, Failure, Message, Receipt, SendError
from marketswarm.settings import Addresses, Name, Port, Tls

WITHIN_SEC: Final = 15.0
"""A mail server may greylist, scan and look names up while we wait."""

TOO_BIG: Final = 552
"""What a server answers to a mail's announced size (RFC 1870)."""

log = logs.get("email")


class Options(BaseModel):
    """Which server, as whom, from and to. The default of `port` is what goes with `tls`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Name
    port: Port | None = None
    user: Name | None = None
    password: SecretStr | None = None
    sender: Addresses
    to: Addresses
    tls: Tls = "starttls"


class Email:
    """Sends each message as one mail, over a connection of its own."""

    def __init__(
        self,
        name: str,
        options: Options,
        *,
        tls: ssl.SSLContext | None = None,
        within_sec: float = WITHIN_SEC,
    ) -> None:
        """Takes `tls` instead of the system's trust."""
        self.name = name
        self.where = options.host
        self._options = options
        self._tls = tls
        self.within_sec = within_sec

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - not needed
        """See `Channel`."""
        mail = mail_of(message, self._options.sender, self._options.to, datetime.now(UTC))
        try:
            async with asyncio.timeout(self.within_sec):
                refused, answer = await self._hand_over(mail)
        except TimeoutError:
            raise SendError("timeout") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise refusal(error) from None
        if refused:
            # people were reached; that not all of them were must not go unseen
            codes = sorted({code for code, _ in refused.values()})
            log.warning("email.some_refused", where=self.where, refused=len(refused), codes=codes)
        return Receipt(plain(answer)[:100])

    async def aclose(self) -> None:
        """See `Channel`."""

    async def _hand_over(self, mail: EmailMessage) -> tuple[dict[str, aiosmtplib.SMTPResponse], str]:
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
            # of its own, it would look up this machine's full name, and wait for that
            local_hostname="[127.0.0.1]",
            timeout=self.within_sec,
        )


def opened(name: str, options: Options) -> Channel:
    """The channel; nothing is connected yet."""
    return Email(name, options)


def refusal(error: Exception) -> SendError:
    """What went wrong in one word or number.

    A 5xx is permanent: of the message once the server was given it or its size, else of the channel.
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
        # what the library says of a server without STARTTLS or AUTH; someone on the way may have hidden them
        return SendError("no_starttls" if "STARTTLS" in str(error) else "no_auth")
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return SendError("not_supported", Failure.BROKEN)
    if isinstance(error, OSError):
        return SendError("refused" if isinstance(error, aiosmtplib.SMTPConnectError) else "broken")
    return SendError(f"bad_mail ({type(error).__name__})", Failure.REJECTED)
