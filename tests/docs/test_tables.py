"""Holds the tables of reasons and events to the code: none missing, none made up."""

import re
from typing import get_args

from marketswarm.bus.errors import REASONS
from marketswarm.detector import Reason
from marketswarm.event import Kind
from sentinel.drift import DriftReason
from services.archive.settings import KeptTable, WriteSettings
from support.pages import section, table


def test_each_reason_is_explained():
    shown = {row[0].strip("`") for row in table("docs/detection.md", "Reasons")}
    assert shown == {*Reason, *REASONS, "deaf", *DriftReason}


def test_each_event_is_explained():
    shown = set(re.findall(r"^\| .*", section("docs/operating.md", "Read alerts"), re.MULTILINE))
    named = {name for row in shown for name in re.findall("`([a-z]+_(?:miss|ok|unwatched|drift|gap))`", row)}
    assert named == set(Kind)


def test_each_table_whose_rows_archive_can_delete_is_named_with_its_days():
    rows = table("docs/services/archive.md", "Settings")
    [(days, words)] = [row[1:] for row in rows if row[0] == "`keep_days`"]
    assert set(re.findall(r"`(\w+)`", words)) - {"keep_days"} == set(get_args(KeptTable))
    assert days == ", ".join(f"{name} {kept:g}" for name, kept in WriteSettings().keep_days.items())
