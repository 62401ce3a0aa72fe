import re

import pytest

from marketswarm.cli.compose_text import entry, with_service
from support.pages import ROOT

PLAIN = """\
# ours
services:
  redis:
    image: redis  # any
volumes:
  data: {}
"""
ANCHORED = """\
x-agent: &agent
  image: marketswarm
  restart: unless-stopped

services:
  # the buses
  system-redis:
    image: redis:7

  rss_agg:
    <<: *agent
    command: ["python", "-m", "services.rss_agg"]  # rss_agg reads feeds

  healer: {<<: *agent, command: ["python", "-m", "healer"]}

volumes:
  data: {}
"""


def test_without_a_neighbour_it_gets_what_compose_needs():
    longer = with_service(PLAIN, "prices", "prices")
    assert longer == PLAIN.replace("volumes:", "\n" + entry("prices", "prices") + "\nvolumes:")


def test_it_gets_what_its_neighbour_has():
    longer = with_service(ANCHORED, "prices-eu", "prices_eu")
    added = """\
  prices-eu:
    <<: *agent
    command: ["python", "-m", "services.prices_eu"]  # rss_agg reads feeds

"""
    assert longer == ANCHORED.replace("volumes:", added + "volumes:")


def test_what_two_can_not_both_have_is_not_copied():
    text = ANCHORED.replace("    command:", '    ports: ["9000:9000"]\n    command:', 1)
    longer = with_service(text, "prices", "prices")
    assert longer is not None
    assert entry("prices", "prices") in longer
    assert longer.count("9000:9000") == 1


def with_volumes(said):
    return ANCHORED.replace("\n\n  healer", f"\n    volumes:{said}\n\n  healer")


def test_a_volume_that_is_only_read_is_taken_over_with_a_folder_of_its_own_name():
    volume = "{type: volume, source: keys, read_only: true, volume: {subpath: urls/rss_agg}}"
    text = with_volumes(f"\n      - ./conf:/conf:ro\n      - {volume}")
    longer = with_service(text, "prices-eu", "prices_eu")
    assert longer is not None
    added = longer.partition("  prices-eu:\n")[2].partition("\n\n")[0]
    assert added.splitlines()[2:] == [
        "    volumes:",
        "      - ./conf:/conf:ro",
        f"      - {volume.replace('rss_agg', 'prices-eu')}",
    ]


@pytest.mark.parametrize(
    "volumes",
    [
        "\n      - data:/data",
        "\n      - a:/a:ro\n      - type: volume\n        source: data",
        " *data",
        " [a:/a]",
    ],
)
def test_a_volume_that_is_written_to_or_not_plain_is_not_shared(volumes):
    text = with_volumes(volumes)
    longer = with_service(text, "prices", "prices")
    assert longer is not None
    assert entry("prices", "prices") in longer


def test_the_shipped_compose_file_gets_one_like_those_it_has():
    compose = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    longer = with_service(compose, "prices-eu", "prices_eu")
    like = re.search(r"^  rss_agg:\n(?: {4,}.*\n)+", compose, re.MULTILINE)
    assert longer is not None
    assert like is not None
    ours = like[0].replace("services.rss_agg", "services.prices_eu").replace("rss_agg", "prices-eu")
    assert longer.replace(f"\n{ours}", "") == compose
    assert ours in longer


def test_other_indents_and_a_file_that_ends_there_will_do():
    assert with_service("services:\n    a:\n        image: b", "p", "p") == (
        "services:\n    a:\n        image: b\n\n"
        '    p:\n    build: .\n    command: ["python", "-m", "services.p"]\n    restart: unless-stopped\n'
    ).replace("\n    build", "\n      build").replace("\n    command", "\n      command").replace(
        "\n    restart", "\n      restart"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: 3\n",
        "services: {a: {image: b}}\n",
        "services:\n\ta:\n",
        "services:\n",
        PLAIN.replace("redis:", "p:", 1),
    ],
)
def test_what_is_not_plain_or_has_it_already_is_left_alone(text):
    assert with_service(text, "p", "p") is None
