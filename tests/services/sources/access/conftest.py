"""A server that answers as a source, and asking it."""

import pytest

from services.sources.access.client import AskContext, SourceClient
from support.rig.receiver import Receiver
from support.scenes.source_client import Account, make_source, question, rows


@pytest.fixture
def site():
    with Receiver() as site:
        site.always = rows(0, 1, 2, 3)
        yield site


@pytest.fixture
async def ask(site):
    """Asks a source that is found at `site`."""

    async def ask_source(source=None, account=None, keys=(), port=site.port, seen=None, **more):
        source = source or make_source()
        where, known = {"example": f"http://127.0.0.1:{port}"}, {"example": keys} if keys else {}
        if seen is not None:
            more["on_request"] = seen.append
        async with SourceClient(known, where) as client:
            account, asked = account or Account(), more.pop("question", question())
            return await client.ask(source, asked, account, AskContext(account, **more))

    return ask_source
