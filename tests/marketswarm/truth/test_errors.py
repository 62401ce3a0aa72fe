"""Sentences about names that are not known."""

from marketswarm.truth import describe_unknown


def test_a_name_that_the_truth_does_not_have_is_told_in_one_sentence_with_what_may_be_meant():
    assert (
        describe_unknown("rss_ag", ["mesh", "rss_agg"]) == "the truth names no rss_ag; did you mean rss_agg?"
    )
    assert describe_unknown("x", ["mesh", "rss_agg"]) == "the truth names no x; it names mesh, rss_agg"
    assert describe_unknown("x", []) == "the truth names no x; it names none"
    many = describe_unknown("x", [f"service_{n}" for n in range(14)])
    assert many.endswith("service_10, service_11 and 2 more")
