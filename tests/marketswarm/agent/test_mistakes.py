"""Each kind of mistake that pydantic finds, in the words in which a truth tells its own."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import Field, model_validator

from marketswarm.agent.own import Own, read_own
from marketswarm.truth import Heartbeat, Service


class Branch(Own):
    kind: Literal["dns"]
    host: str


class Other(Own):
    kind: Literal["https", "tls"]
    url: str


class Wishes(Own):
    sec: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 1
    below: Annotated[float, Field(lt=0.5)] = 0
    times: Annotated[int, Field(ge=1)] = 1
    even: Annotated[int, Field(multiple_of=2)] = 2
    on: bool = True
    word: Annotated[str, Field(min_length=2, max_length=4, pattern="^[a-z]*$")] = "ab"
    words: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    level: Literal["info", "warning"] = "info"
    by_name: dict[str, int] = Field(default_factory=dict)
    inner: Branch | None = None
    any_of: Annotated[Branch | Other, Field(discriminator="kind")] | None = None
    api_token: int = 0
    price: Decimal = Decimal(0)
    sum_of: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.sum_of) > 10:
            raise ValueError("sum_of[1]: together with the first more than 10")
        if len(self.sum_of) > 2:
            raise ValueError("three of them are one too many")
        return self


class Section(Own):
    settings: Wishes = Wishes()


def told(svc: str = "a", **settings: Any) -> list[str]:
    section = Service(heartbeat=Heartbeat(channel="a:heartbeat"), settings=settings)
    return [str(each) for each in read_own(Section, svc, section)[1]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sec": 0}, "sec: 0 is not more than 0"),
        ({"sec": 100_000}, "sec: 100000 is more than 86400"),
        ({"sec": "soon"}, "sec: text is not a number"),
        ({"sec": None}, "sec: null is not a number"),
        ({"sec": [1]}, "sec: a list is not a number"),
        ({"below": 0.5}, "below: 0.5 is not less than 0.5"),
        ({"times": 0}, "times: 0 is less than 1"),
        ({"times": 1.5}, "times: 1.5 is not a whole number"),
        ({"times": "x"}, "times: text is not a whole number"),
        ({"times": {}}, "times: an object is not a whole number"),
        ({"even": 3}, "even: 3 is not a multiple of 2"),
        ({"on": "perhaps"}, "on: text is not true or false"),
        ({"on": 7}, "on: 7 is not true or false"),
        ({"word": 3}, "word: 3 is not text"),
        ({"word": "a"}, "word: text has less than 2 characters"),
        ({"word": "abcde"}, "word: text has more than 4 characters"),
        ({"word": "AB"}, "word: text does not have the form that is asked for"),
        ({"words": "ab"}, "words: text is not a list"),
        ({"words": []}, "words: a list has less than 1 entries"),
        ({"words": ["a", "b", "c"]}, "words: a list has more than 2 entries"),
        ({"words": ["a", 2]}, "words[1]: 2 is not text"),
        ({"level": "warnign"}, 'level: text is none of those that are known (did you mean "warning"?)'),
        ({"level": 3}, "level: 3 is none of those that are known (known: info, warning)"),
        ({"by_name": [1]}, "by_name: a list is not an object"),
        ({"by_name": {"a b": "x"}}, 'by_name["a b"]: text is not a whole number'),
        ({"inner": 3}, "inner: 3 is not an object"),
        ({"inner": {"kind": "dns"}}, "inner.host: missing"),
        ({"any_of": {"kind": "dns"}}, "any_of.host: missing"),
        ({"any_of": {}}, "any_of: an object says nowhere of what kind it is"),
        (
            {"any_of": {"kind": "htps", "url": "x"}},
            'any_of: an object is none of those that are known (did you mean "https"?)',
        ),
        ({"api_token": "hunter2"}, "api_token: text is not a whole number"),
        ({"api_token": 1234.5}, "api_token: the value is not a whole number"),
        ({"sum_of": [5, 6]}, "sum_of[1]: together with the first more than 10"),
    ],
)
def test_a_mistake_has_its_words(settings, said):
    assert told(**settings) == [f"services.a.settings.{said}"]


def test_what_a_validator_says_of_the_whole_stands_at_the_whole():
    assert told(sum_of=[1, 2, 3]) == ["services.a.settings: three of them are one too many"]


def test_a_kind_of_mistake_that_nobody_thought_of_is_told_all_the_same():
    (said,) = told(price="x")
    assert said.startswith("services.a.settings.price: text ")


def test_the_name_of_a_service_stands_in_the_path_as_in_every_other():
    assert told("a.b", times=0) == ['services["a.b"].settings.times: 0 is less than 1']


@pytest.mark.parametrize("secret", ["hunter2", "https://u:hunter2@h/", "x" * 50 + "hunter2"])
def test_no_text_is_ever_repeated(secret):
    keys = [key for key in Wishes.model_fields if key != "word"]
    said = told(**dict.fromkeys(keys, secret))
    assert len(said) >= len(keys) - 1
    assert "hunter2" not in str(said)
