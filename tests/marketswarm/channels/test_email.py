"""Mail: what it looks like, and real servers that take it, ask for TLS or a password, or refuse it."""

import asyncio
import re
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from marketswarm.channels import Message, SendError, Severity
from marketswarm.channels.email import Email, Options, compose_mail
from marketswarm.channels.text import printable_line
from support.channel_messages import CASES, GROUP, HOSTILE, MISS, OK, REMINDER, agrees, hostile
from support.rig.certificates import Authority
from support.rig.process import HOST, free_port
from support.waiting import Stopwatch, auntil

NOW = datetime(2025, 11, 6, 12, 51, 30, tzinfo=UTC)


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
        await channel.send(MISS)
    error = caught.value
    assert "hunter2" not in f"{error!r}"
    assert error.__context__ is None or error.__suppress_context__
    return error.reason, error.is_permanent


SENDER = "MarketSwarm <swarm@example.org>"


def made(message: Message, sender: str = SENDER) -> EmailMessage:
    return compose_mail(message, sender, "Ops <ops@example.org>,night@example.org", NOW)


@pytest.mark.parametrize("case", CASES)
def test_a_mail_looks_like_its_golden_file(case):
    shown = re.sub(r"={15}\d+==", "=boundary=", made(CASES[case]).as_string())
    agrees("email", case, shown, "txt")


def test_the_text_and_the_html_say_the_same():
    mail = made(GROUP)
    texts = [part.get_content() for part in mail.iter_parts()]
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    for text in texts:
        assert all(line in text for line in (GROUP.title, GROUP.text, *GROUP.lines, GROUP.key))


def test_a_thread_hangs_together_by_the_id_of_its_first_mail_however_often_that_is_sent():
    first, later, last = made(MISS), made(REMINDER), made(OK)
    assert first["Message-ID"] == made(MISS)["Message-ID"]
    assert (first["In-Reply-To"], first["References"]) == (None, None)
    for mail in (later, last):
        assert mail["In-Reply-To"] == mail["References"] == first["Message-ID"]
    assert len({mail["Message-ID"] for mail in (first, later, last)}) == 3


def test_an_id_that_is_a_strangers_makes_the_same_thread_all_the_same():
    first = Message("x>\r\nBcc: a@b", "t", "t", Severity.INFO, 0.0, thread="x>\r\nBcc: a@b")
    answer = Message("y", "t", "t", Severity.INFO, 0.0, thread="x>\r\nBcc: a@b")
    assert made(answer)["References"] == made(first)["Message-ID"]


@pytest.mark.parametrize(
    ("sender", "named"),
    [("a@example.org", "marketswarm.example.org"), ("a@[127.0.0.1]", "marketswarm.localhost")],
)
def test_mail_can_be_sorted_by_its_list_and_no_machine_answers_it(sender, named):
    mail = made(MISS, sender)
    assert mail["List-Id"] == f"MarketSwarm <{named}>"
    assert mail["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_stranger_is_called_formats_nothing_and_adds_no_part(name):
    mail = message_from_bytes(made(hostile(name)).as_bytes(), policy=policy.default)
    assert len(list(mail.iter_parts())) == 2
    assert mail["Subject"]
    html = mail.get_body(("html",)).get_content()
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= {"html", "body", "h3", "p", "br", "table", "tr", "td"}
    found = HTMLParser()
    found.handle_data = (seen := []).append
    found.feed(html)
    assert printable_line(name).split()[0] in " ".join(seen)


def test_a_mail_is_no_bigger_than_any_server_takes():
    huge = Message("a", "t" * 10_000, "x\n" * 1_000_000, Severity.INFO, 0.0, lines=("y" * 1000,) * 100_000)
    raw = made(huge).as_bytes()
    assert len(raw) < 1_000_000
    assert b"more" in raw
    assert max(map(len, raw.splitlines())) < 998


def test_nothing_in_a_message_adds_a_header_or_ends_the_mail():
    hostile = Message(
        "x>\r\nBcc: all@example.org", "a\r\nBcc: b@example.org", "one\r\n.\r\ntwo\x00", Severity.INFO, 0.0
    )
    mail = compose_mail(hostile, "swarm@example.org", "ops@example.org", NOW)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "a  Bcc: b@example.org"
    assert mail["Message-ID"].startswith("<sha256.")
    text = mail.get_body(("plain",)).get_content()
    assert text.splitlines()[2:5] == ["one", ".", "two "]


async def test_a_server_takes_it_for_all_who_are_to_have_it(serve):
    box, port = serve()
    await mailer(port).send(MISS)
    ((to, raw),) = box.mails
    assert to == ["ops@example.org", "night@example.org"]
    assert b"Message-ID: <heartbeat_miss.rss_agg.1762433458300@example.org>" in raw


async def test_a_thread_arrives_whole_in_letters_of_any_kind(serve):
    box, port = serve()
    away = replace(
        MISS, title="Börse ist weg", text="seit 31 s \N{EM DASH} \N{SNOWMAN}", lines=("ärger <b>",)
    )
    for message in (away, OK):
        await mailer(port).send(message)
    first, later = (message_from_bytes(raw, policy=policy.default) for _, raw in box.mails)
    assert first["Subject"] == "Börse ist weg"
    assert "seit 31 s \N{EM DASH} \N{SNOWMAN}" in first.get_body(("plain",)).get_content()
    assert "ärger &lt;b&gt;" in first.get_body(("html",)).get_content()
    assert later["References"] == first["Message-ID"]


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
    await mailer(port).send(MISS)
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
    await mailer(port, trusting, **known).send(MISS)
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
    await mailer(port, trusting, tls="tls").send(MISS)
    assert len(box.mails) == 1


async def test_nobody_there_is_refused(serve):
    assert await refused(mailer(free_port())) == ("refused", False)


@pytest.mark.parametrize("said", [b"", b"220-", b"220 here\r\n250-"])
async def test_a_server_that_drips_costs_its_time_and_no_more(said):
    hung_up = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        try:
            while said:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
            await _reader.read()
        except OSError:
            pass
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(drip, HOST, port := free_port())
    async with server:
        stopwatch = Stopwatch()
        assert await refused(mailer(port, within_sec=0.5)) == ("timeout", False)
        assert stopwatch.own_sec < 6
        async with asyncio.timeout(10):
            await hung_up.wait()
