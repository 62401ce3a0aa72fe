"""Mail: its headers, and real servers that take it, ask for TLS or a password, or refuse it."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace
from email import message_from_bytes, policy

import aiosmtplib
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from marketswarm.channels import Failure, Message, Severity, email
from marketswarm.channels.email import Email, Options, make_refusal_error
from support.channel_kinds import compose, refused_for
from support.channel_messages import MISS, OK, REMINDER
from support.rig.certificates import Authority
from support.rig.process import HOST, free_port
from support.waiting import PATIENT_SEC, auntil


class Box:
    """A mail server's handler: keeps what it took, and refuses as told."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.data = "250 taken"
        self.refused: dict[str, str] = {}
        self.quit: str | None = "221 bye"
        """The answer to QUIT; None for no answer, while the connection stays."""

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - the library's
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 yes"

    async def handle_QUIT(self, _server, _session, _envelope):  # noqa: N802 - the library's
        if self.quit is None:
            await asyncio.Event().wait()  # until the client hangs up
        return self.quit or "221 bye"

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
            lambda server=server: all(one.transport is None for one in server.sessions), what="hanging up"
        )
        server.stop()


def mailer(port: int, ssl_context: ssl.SSLContext | None = None, within_sec: float = 15, **more) -> Email:
    known = {"sender": "MarketSwarm <swarm@example.org>", "to": "ops@example.org, night@example.org"}
    options = Options(host=HOST, port=port, **{"tls": "none", **known, **more})
    return Email("email", options, tls=ssl_context, within_sec=within_sec)


def test_a_thread_hangs_together_by_the_id_of_its_first_mail_however_often_that_is_sent():
    first, later, last = compose(MISS), compose(REMINDER), compose(OK)
    assert first["Message-ID"] == compose(MISS)["Message-ID"]
    assert (first["In-Reply-To"], first["References"]) == (None, None)
    for mail in (later, last):
        assert mail["In-Reply-To"] == mail["References"] == first["Message-ID"]
    assert len({mail["Message-ID"] for mail in (first, later, last)}) == 3


def test_an_id_that_is_a_strangers_makes_the_same_thread_all_the_same():
    first = Message("x>\r\nBcc: a@b", "t", "t", Severity.INFO, 0.0, thread="x>\r\nBcc: a@b")
    answer = Message("y", "t", "t", Severity.INFO, 0.0, thread="x>\r\nBcc: a@b")
    assert compose(answer)["References"] == compose(first)["Message-ID"]


@pytest.mark.parametrize(
    ("sender", "named"),
    [("a@example.org", "marketswarm.example.org"), ("a@[127.0.0.1]", "marketswarm.localhost")],
)
def test_mail_can_be_sorted_by_its_list_and_no_machine_answers_it(sender, named):
    mail = compose(MISS, sender)
    assert mail["List-Id"] == f"MarketSwarm <{named}>"
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_mail_is_no_bigger_than_any_server_takes():
    huge = Message("a", "t" * 10_000, "x\n" * 50_000, Severity.INFO, 0.0, lines=("y" * 1000,) * 2000)
    raw = compose(huge).as_bytes()
    assert len(raw) < 1_000_000
    assert b"more" in raw
    assert max(map(len, raw.splitlines())) < 998


def test_nothing_in_a_message_adds_a_header_or_ends_the_mail():
    hostile = Message(
        "x>\r\nBcc: all@example.org", "a\r\nBcc: b@example.org", "one\r\n.\r\ntwo\x00", Severity.INFO, 0.0
    )
    mail = compose(hostile)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "a  Bcc: b@example.org"
    assert mail["Message-ID"].startswith("<sha256.")
    text = mail.get_body(("plain",)).get_content()
    assert text.splitlines()[2:5] == ["one", ".", "two "]


async def test_a_thread_arrives_whole_for_all_recipients_in_letters_of_any_kind(serve):
    box, port = serve()
    away = replace(
        MISS, title="Börse ist weg", text="seit 31 s \N{EM DASH} \N{SNOWMAN}", lines=("ärger <b>",)
    )
    for message in (away, OK):
        await mailer(port).send(message)
    assert [to for to, _ in box.mails] == [["ops@example.org", "night@example.org"]] * 2
    first, later = (message_from_bytes(raw, policy=policy.default) for _, raw in box.mails)
    assert first["Subject"] == "Börse ist weg"
    assert "seit 31 s \N{EM DASH} \N{SNOWMAN}" in first.get_body(("plain",)).get_content()
    assert "ärger &lt;b&gt;" in first.get_body(("html",)).get_content()
    assert first["Message-ID"] == "<heartbeat_miss.rss_agg.1762433458300@example.org>"
    assert later["References"] == first["Message-ID"]


@pytest.mark.parametrize("answer", [None, "421 too slow", "x" * 9])
async def test_a_mail_that_was_accepted_is_that_whatever_quit_is_answered(serve, monkeypatch, answer):
    monkeypatch.setattr(email, "QUIT_WITHIN_SEC", 0.1)
    box, port = serve()
    box.quit = answer
    receipt = await mailer(port, within_sec=1).send(MISS)
    assert (receipt.answer, len(box.mails)) == ("taken", 1)


async def test_a_line_that_is_a_dot_arrives_as_one(serve):
    box, port = serve()
    await mailer(port).send(Message("a", "t", "one\n.\ntwo", Severity.INFO, 0.0))
    assert b"one\r\n.\r\ntwo" in box.mails[0][1]


async def test_a_refusal_says_itself_whether_it_is_for_good(serve):
    box, port = serve()
    for box.data, found in (("451 later", ("451", False)), ("554 spam", ("554", True))):
        assert await refused_for(mailer(port)) == found


def recipients(*codes):
    return aiosmtplib.SMTPRecipientsRefused(
        [aiosmtplib.SMTPRecipientRefused(code, "no", f"u{n}@example.org") for n, code in enumerate(codes)]
    )


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (aiosmtplib.SMTPDataError(554, "spam"), Failure.REJECTED),
        (aiosmtplib.SMTPDataError(451, "later"), Failure.TEMPORARY),
        (aiosmtplib.SMTPSenderRefused(552, "too big", "a@example.org"), Failure.REJECTED),
        (aiosmtplib.SMTPSenderRefused(550, "who are you", "a@example.org"), Failure.BROKEN),
        (aiosmtplib.SMTPAuthenticationError(535, "no"), Failure.BROKEN),
        (recipients(550, 550), Failure.BROKEN),
        (recipients(550, 450), Failure.TEMPORARY),
        (ValueError("a mail that can't be written"), Failure.REJECTED),
    ],
)
def test_a_refusal_is_of_the_message_or_of_the_channel(error, found):
    assert make_refusal_error(error).failure is found


async def test_one_who_is_refused_keeps_it_from_nobody_else_and_does_not_go_unseen(serve, capsys):
    box, port = serve()
    box.refused = {"night@example.org": "550 unknown"}
    await mailer(port).send(MISS)
    assert box.mails[0][0] == ["ops@example.org"]
    assert "email.some_refused" in "".join(capsys.readouterr())
    box.refused["ops@example.org"] = "451 later"
    assert await refused_for(mailer(port)) == ("550", False)  # one of them may yet get it
    box.refused["ops@example.org"] = "550 unknown"
    assert await refused_for(mailer(port)) == ("550", True)


def passwords(_server, _session, _envelope, _mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"me", b"hunter2")
    return AuthResult(success=right, handled=right)


@pytest.mark.needs("openssl")
async def test_starttls_and_a_password(serve, tmp_path):
    context = Authority(tmp_path).untrusted("cert")
    box, port = serve(tls_context=context, require_starttls=True, authenticator=passwords, auth_required=True)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    known = {"tls": "starttls", "user": "me", "password": "hunter2"}
    await mailer(port, trusting, **known).send(MISS)
    assert len(box.mails) == 1
    assert await refused_for(mailer(port, **known)) == ("tls", False)  # nobody vouches for it
    wrong = mailer(port, trusting, **{**known, "password": "hunter22"})
    assert await refused_for(wrong) == ("535", True)
    assert len(box.mails) == 1


async def test_starttls_that_is_not_to_be_had_is_no_reason_to_do_without(serve):
    box, port = serve()
    reason, _ = await refused_for(mailer(port, tls="starttls"))
    assert reason == "no_starttls"
    assert box.mails == []


@pytest.mark.needs("openssl")
async def test_tls_from_the_first_byte(serve, tmp_path):
    box, port = serve(ssl_context=Authority(tmp_path).untrusted("cert"))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    await mailer(port, trusting, tls="tls").send(MISS)
    assert len(box.mails) == 1


async def test_nobody_there_is_refused(serve):
    assert await refused_for(mailer(free_port())) == ("refused", False)


async def test_a_server_that_drips_costs_its_time_and_no_more():
    hung_up = []

    def drips(said: bytes):
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            try:
                while said:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
                await reader.read()
            except OSError:
                pass
            writer.close()
            hung_up.append(said)

        return answer

    beginnings = (b"", b"220-", b"220 here\r\n250-")
    async with AsyncExitStack() as running:
        ports = [free_port() for _ in beginnings]
        for said, port in zip(beginnings, ports, strict=True):
            await running.enter_async_context(await asyncio.start_server(drips(said), HOST, port))
        async with asyncio.timeout(PATIENT_SEC):  # they drip for ever
            errors = await asyncio.gather(*(refused_for(mailer(port, within_sec=0.5)) for port in ports))
        assert errors == [("timeout", False)] * 3
        await auntil(lambda: len(hung_up) == 3, what="hanging up")
