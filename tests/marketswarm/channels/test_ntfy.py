"""ntfy: the topic out of the URL, and its token."""

import pytest
from pydantic import ValidationError

from marketswarm.channels.message import Message, Severity
from marketswarm.channels.ntfy import Ntfy, Options, split_topic
from support.channel_kinds import URL
from support.channel_messages import MISS


@pytest.mark.parametrize(
    ("url", "root", "topic"),
    [
        ("https://ntfy.sh/ops", "https://ntfy.sh/", "ops"),
        ("https://ntfy.sh/ops/", "https://ntfy.sh/", "ops"),
        ("http://me:pw@127.0.0.1:8080/ops#x", "http://me:pw@127.0.0.1:8080/", "ops"),
        ("https://example.org/push/ops?auth=x", "https://example.org/push/?auth=x", "ops"),
    ],
)
def test_json_goes_to_the_root_and_the_topic_into_it(url, root, topic):
    assert split_topic(url) == (root, topic)


@pytest.mark.parametrize("url", ["https://ntfy.sh", "https://ntfy.sh/", "https://ntfy.sh/s3cret.x", "s3cret"])
def test_a_url_without_a_topic_is_an_error_that_does_not_show_it(url):
    with pytest.raises(ValidationError) as caught:
        Options(url=url)
    assert "s3cret" not in str(caught.value)


async def test_a_token_goes_along_as_a_bearer_and_other_letters_arrive_whole(http, receiver):
    options = Options.model_validate({"url": URL, "token": "tk_s3cret"})
    message = Message("x", "Größe \U0001f4a9", "größer", Severity.WARNING, 0.0)
    await Ntfy("ntfy", options, http).send(message)
    await Ntfy("ntfy", Options(url=URL), http).send(MISS)
    first, second = receiver.requests
    assert first.url.path == "/hook/"
    assert first.headers["authorization"] == "Bearer tk_s3cret"
    assert "authorization" not in second.headers
    assert receiver.found[0] == {
        "topic": "s3cret",
        "title": "Größe \U0001f4a9",
        "message": "größer",
        "priority": 4,
        "tags": ["warning"],
    }
