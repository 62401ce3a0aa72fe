"""Mail: what it looks like, and real servers that take it, ask for TLS or a password, or refuse it."""

import asyncio
import ssl
import time
from datetime import UTC, datetime

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from rig_process import HOST, auntil, free_port
from rig_tls import Authority

from marketswarm.channels import Message, SendError, Severity
from marketswarm.channels.email import Email, Options, mail_of

MISS = b'{"type":"healer_miss","svc":"healer"}'
MESSAGE = Message(
    "healer_miss.healer.1762433458300",
    "healer is down",
    "no beat for 35 s (timeout 30 s)",
    Severity.CRITICAL,
    1762433458.3,
    events=(MISS,),
)
NOW = datetime(2025, 11, 6, 12, 51, 30, tzinfo=UTC)
GOLDEN = """\
Subject: healer is down
From: MarketSwarm <swarm@example.org>
To: ops@example.org, night@example.org
Date: Thu, 06 Nov 2025 12:51:30 +0000
Message-ID: <healer_miss.healer.1762433458300@example.org>
Auto-Submitted: auto-generated
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 7bit
MIME-Version: 1.0

healer is down

no beat for 35 s (timeout 30 s)

at 2025-11-06 12:50:58+00:00
healer_miss.healer.1762433458300
"""


class Box:
    """A mail server's handler: keeps what it took, and refuses as told."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.data = "250 taken"
        self.refused: dict[str, str] = {}

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - the library's
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 yes"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - the library's
        if self.data.startswith("250"):
            self.mails.append((envelope.rcpt_tos, envelope.content))
        return self.data


class Served(Controller):
    """Remembers its connections, so that it can be ended after them."""

    def __init__(self, *args, **how) -> None:
        self.sessions = []
        super().__init__(*args, **how)

    def factory(self):
        self.sessions.append(super().factory())
        return self.sessions[-1]


@pytest.fixture
async def serve():
    """Starts a mail server; ends all at the end, once the client's loop has closed its connections."""
    running = []

    def start(**how):
        box = Box()
        server = Served(box, hostname=HOST, port=free_port(), **how)
        server.start()
        running.append(server)
        return box, server.port

    yield start
    for server in running:
        await auntil(
            lambda server=server: all(one.transport is None for one in server.sessions), 5, "hanging up"
        )
        server.stop()


def mailer(port: int, ssl_context: ssl.SSLContext | None = None, within_sec: float = 15, **more) -> Email:
    known = {"sender": "MarketSwarm <swarm@example.org>", "to": "ops@example.org, night@example.org"}
    options = Options(host=HOST, port=port, **{"tls": "none", **known, **more})
    return Email("email", options, tls=ssl_context, within_sec=within_sec)


async def refused(channel: Email) -> tuple[str, bool]:
    with pytest.raises(SendError) as caught:
        await channel.send(MESSAGE)
    error = caught.value
    assert "hunter2" not in f"{error!r}"
    assert error.__context__ is None or error.__suppress_context__
    return error.reason, error.permanent


def test_a_mail_looks_like_this():
    mail = mail_of(MESSAGE, "MarketSwarm <swarm@example.org>", "Ops <ops@example.org>,night@example.org", NOW)
    assert mail.as_string() == GOLDEN


def test_nothing_in_a_message_adds_a_header_or_ends_the_mail():
    hostile = Message(
        "x>\r\nBcc: all@example.org", "a\r\nBcc: b@example.org", "one\r\n.\r\ntwo\x00", Severity.INFO, 0.0
    )
    mail = mail_of(hostile, "swarm@example.org", "ops@example.org", NOW)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "a  Bcc: b@example.org"
    assert mail["Message-ID"].startswith("<sha256.")
    assert mail.get_content().splitlines()[2:5] == ["one", ".", "two "]


async def test_a_server_takes_it_for_all_who_are_to_have_it(serve):
    box, port = serve()
    await mailer(port).send(MESSAGE)
    ((to, raw),) = box.mails
    assert to == ["ops@example.org", "night@example.org"]
    assert b"Message-ID: <healer_miss.healer.1762433458300@example.org>" in raw


async def test_a_line_that_is_a_dot_arrives_as_one(serve):
    box, port = serve()
    await mailer(port).send(Message("a", "t", "one\n.\ntwo", Severity.INFO, 0.0))
    assert b"one\r\n.\r\ntwo" in box.mails[0][1]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("451 later", ("451", False)),
        ("452 full", ("452", False)),
        ("550 never", ("550", True)),
        ("554 spam", ("554", True)),
    ],
)
async def test_a_refusal_says_itself_whether_it_is_for_good(serve, answer, found):
    box, port = serve()
    box.data = answer
    assert await refused(mailer(port)) == found


async def test_one_who_is_refused_keeps_it_from_nobody_else_and_does_not_go_unseen(serve, capsys):
    box, port = serve()
    box.refused = {"night@example.org": "550 unknown"}
    await mailer(port).send(MESSAGE)
    assert box.mails[0][0] == ["ops@example.org"]
    assert "email.some_refused" in "".join(capsys.readouterr())
    box.refused["ops@example.org"] = "451 later"
    assert await refused(mailer(port)) == ("550", False)  # one of them may yet get it
    box.refused["ops@example.org"] = "550 unknown"
    assert await refused(mailer(port)) == ("550", True)


def passwords(_server, _session, _envelope, _mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"me", b"hunter2")
    return AuthResult(success=right, handled=right)


@pytest.mark.needs("openssl")
async def test_starttls_and_a_password(serve, tmp_path):
    context = Authority(tmp_path).untrusted("cert")
    box, port = serve(tls_context=context, require_starttls=True, authenticator=passwords, auth_required=True)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    known = {"tls": "starttls", "user": "me", "password": "hunter2"}
    await mailer(port, trusting, **known).send(MESSAGE)
    assert len(box.mails) == 1
    assert await refused(mailer(port, **known)) == ("tls", False)  # nobody vouches for it
    wrong = mailer(port, trusting, **{**known, "password": "hunter22"})
    assert await refused(wrong) == ("535", True)
    assert len(box.mails) == 1


async def test_starttls_that_is_not_to_be_had_is_no_reason_to_do_without(serve):
    box, port = serve()
    reason, _ = await refused(mailer(port, tls="starttls"))
    assert reason == "no_starttls"
    assert box.mails == []


@pytest.mark.needs("openssl")
async def test_tls_from_the_first_byte(serve, tmp_path):
    box, port = serve(ssl_context=Authority(tmp_path).untrusted("cert"))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    await mailer(port, trusting, tls="tls").send(MESSAGE)
    assert len(box.mails) == 1


async def test_nobody_there_is_refused(serve):
    assert await refused(mailer(free_port())) == ("refused", False)


async def test_a_server_that_says_nothing_costs_its_time_and_no_more():
    hung_up = asyncio.Event()

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(nothing, HOST, port := free_port())
    async with server:
        begun = time.monotonic()
        assert await refused(mailer(port, within_sec=0.5)) == ("timeout", False)
        assert time.monotonic() - begun < 3
        async with asyncio.timeout(2):
            await hung_up.wait()
