"""A file of votes is weighed exactly, or refused with the path of what is wrong in it."""

import json

import pytest

from marketswarm.exit import Mistake
from services.signals.consensus import commands
from services.signals.consensus.votes_file import MAX_BYTES, VotesError, describe_consensus, parse_votes


def weigh(text: str) -> dict:
    return describe_consensus(parse_votes(text.encode()))


def test_a_file_is_weighed_with_twelve_places():
    found = weigh('{"weights": {"a": 0.4, "b": 0.6}, "quorum": 0.5, "votes": {"a": 1, "b": -0.25}}')
    assert found == {
        "consensus": "6.0",
        "outcome": "flat",
        "score": "0.250000000000",
        "weights_used": {"a": "0.400000000000", "b": "0.600000000000"},
        "conflict": "0.545454545455",
        "participation": "1.000000000000",
        "effective_votes": "1.923076923077",
        "abstained": {},
    }


def test_numbers_are_taken_as_they_are_written():
    found = weigh(
        '{"weights": {"a": 1, "b": 1}, "votes": {"a": 0.30000000000000004, "b": 0.29999999999999996}}'
    )
    assert (found["score"], found["outcome"]) == ("0.300000000000", "long")


@pytest.mark.parametrize("vote", ["null", "NaN", "Infinity", "1.5", "-1.0000000000001"])
def test_what_is_no_opinion_abstains(vote):
    found = weigh(f'{{"weights": {{"a": 1, "b": 1, "c": 1}}, "votes": {{"a": 0.5, "b": 0.5, "c": {vote}}}}}')
    assert (found["score"], list(found["abstained"])) == ("0.500000000000", ["c"])


def test_too_few_votes_have_no_outcome():
    found = weigh('{"weights": {"a": 1, "b": 1, "c": 1}, "quorum": 0.5, "votes": {"a": 1}}')
    assert found["outcome"] == "abstained: quorum"
    nothing = weigh('{"weights": {"a": 1}, "quorum": 0, "votes": {}}')
    assert (nothing["outcome"], nothing["score"]) == ("abstained: quorum", None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "object"),
        ('{"votes": {}}', "weights"),
        ('{"weights": {}, "votes": {}}', "weights"),
        ('{"weights": {"a": 0}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": -1}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": NaN}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": true}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": "1"}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": 1e999999}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": 1e-999999}, "votes": {}}', "weights.a"),
        ('{"weights": {"a": 1}, "quorum": 1.1, "votes": {}}', "quorum"),
        ('{"weights": {"a": 1}, "votes": {"b": 1}}', "votes.b"),
        ('{"weights": {"a": 1}, "votes": {"a": []}}', "votes.a"),
        ('{"weights": {"a": 1}, "votes": {"a": 1, "a": 0}}', "twice"),
        ('{"weights": {"a": 1}, "votes": {}, "enter": 0.2}', "enter"),
        ('{"weights": {"a": 1}, "votes": {}}'.ljust(MAX_BYTES + 1), "bytes"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_path(text, path):
    with pytest.raises(VotesError, match=path):
        parse_votes(text.encode())


def test_the_command_prints_the_same_as_json_and_refuses_by_the_name_of_the_file(tmp_path, capsys):
    path = tmp_path / "votes.json"
    path.write_text('{"weights": {"a": 1, "b": 1}, "votes": {"a": 0.5, "b": null}}')
    commands.consensus(path, as_json=True)
    assert json.loads(capsys.readouterr().out)["abstained"] == {"b": "no_vote"}
    commands.consensus(path)
    assert "abstains: no_vote" in capsys.readouterr().out
    path.write_text("{")
    with pytest.raises(Mistake, match=r"votes\.json: is not JSON"):
        commands.consensus(path)
    with pytest.raises(Mistake, match="No such file"):
        commands.consensus(tmp_path / "missing")
