"""Of what kind a query is, for the histogram of how long queries take."""

import pytest

from services.board.market.query_times import KINDS, find_kind


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        (
            "select at from (select found.* from unnest($1) cross join lateral (select * from quotes))",
            "quotes",
        ),
        ("select asset from symbols where symbol = $1", "symbols"),
        ("select 1 from universes as named left join symbols as one on true", "universes"),
        ("select day from bars\nwhere day > $1", "bars"),
        ("select 1 from barsofgold", "other"),
        ("select 1", "other"),
    ],
)
def test_a_query_is_named_by_the_first_table_that_it_reads(sql, kind):
    assert find_kind(sql) == kind
    assert kind in KINDS
