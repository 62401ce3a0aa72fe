"""What docs/services/signals-voters.md shows works as it says."""

import subprocess
import sys

import orjson
import pytest

from marketswarm.agent import service_config
from marketswarm.testing import MemoryBus
from services.signals.ask.endpoints import ChatSettings, HttpSettings, WordingSettings
from services.signals.ask.questions import encode_question
from services.signals.consensus.consensus import UNIT
from services.signals.voters.votes import Vote
from support.pages import ROOT, blocks
from support.rig.process import free_port
from support.scenes.votes import ask_of, asking, deadline
from support.waiting import auntil

PAGE = ROOT / "docs" / "services" / "signals-voters.md"


@pytest.fixture
def shown_program():
    """The port on which the program of the page listens, soon."""
    port = free_port()
    [program] = blocks(PAGE, "python")
    running = subprocess.Popen([sys.executable, "-c", program.replace("9000", str(port))])
    yield port
    running.kill()
    running.wait()


async def test_the_program_that_is_shown_votes(shown_program):
    voters = {"mine": HttpSettings(url=f"http://127.0.0.1:{shown_program}/vote")}

    async def find_vote():
        async with asking(MemoryBus("market-redis"), voters) as asker:
            found = await asker.ask([ask_of()], deadline())
            return found if isinstance(found["AAPL", "mine"], Vote) else None

    vote = (await auntil(find_vote))["AAPL", "mine"]
    assert vote.opinion == 2 * UNIT // 10
    assert vote.reasons == ("five bars went up",)


def parse_shown(text):
    """Return a block of JSON; one that begins with a key is a part of an object."""
    return orjson.loads(f"{{{text}}}" if text.startswith('"') else text)


def test_the_voters_that_are_shown_are_settings_and_the_question_is_one():
    fleet, http, question, chat, cut_off, wording = map(parse_shown, blocks(PAGE, "json"))
    assert service_config.load_with_sections(orjson.dumps(fleet)).warnings == ()
    assert WordingSettings.model_validate(wording["settings"]["wording"]).calls_per_hour == 30
    assert HttpSettings.model_validate(http).url == "http://127.0.0.1:9000/vote"
    assert ChatSettings.model_validate(chat).model == "grok-4"
    assert ChatSettings.model_validate(cut_off).cutoff is not None
    sent = orjson.loads(encode_question(ask_of()))
    assert question.keys() == sent.keys()
    assert question["bars"][0].keys() == sent["bars"][0].keys()


@pytest.mark.parametrize(
    ("settings", "section"),
    [(HttpSettings, "What it costs"), (WordingSettings, "A model that words the reason")],
)
def test_the_settings_that_are_shown_have_the_defaults_in_force(settings, section):
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    for name, field in settings.model_fields.items():
        if name not in ("url", "kind", "allow_inside", "model"):
            assert f"`{name}`" in text
            assert f"{field.default:g}" in next(line for line in text.splitlines() if f"`{name}`" in line)
