"""Write the rules of a tick in one form, by whose digest its entry names them, and read them again. Pure."""

from fractions import Fraction
from typing import Any, get_args

from services.market.records import Timeframe
from services.signals.consensus.consensus import ConsensusRules, format_number, parse_units
from services.signals.cycle.decide import VOTER_RULES, BarVoter, TickRules
from services.signals.cycle.states import ThriftRules
from services.signals.log.entries import VERSION, encode_entry
from services.tables.signal_rules import StoredRules


def encode_rules(rules: TickRules) -> bytes:
    """Return rules as canonical JSON: the same rules are the same bytes."""
    consensus, thrift = rules.consensus, rules.thrift
    voters: dict[str, dict[str, Any]] = {}
    for each in rules.bar_voters:
        voters[each.name] = {"rule": each.rule} | ({} if each.source is None else {"source": each.source})
    return encode_entry(
        {
            "v": VERSION,
            "weights": {name: format_number(weight) for name, weight in consensus.weights.items()},
            "quorum": repr(float(consensus.quorum)),
            "least_votes": consensus.least_votes,
            "enter": format_number(consensus.enter),
            "leave": format_number(consensus.leave),
            "cooldown_ms": consensus.cooldown_ms,
            "timeframe": thrift.timeframe,
            "skip_move": repr(float(thrift.skip_move)),
            "bar_voters": voters,
        }
    )


def restore_rules(stored: StoredRules) -> TickRules | None:
    """Return the rules that were stored; None if they have a rule or a timeframe that is not known here."""
    voters = tuple(BarVoter(name, each.rule, each.source) for name, each in stored.bar_voters.items())
    timeframe = next((each for each in get_args(Timeframe) if each == stored.timeframe), None)
    if timeframe is None or any(each.rule not in VOTER_RULES for each in voters):
        return None
    return TickRules(
        ConsensusRules(
            weights={name: parse_units(weight) for name, weight in stored.weights.items()},
            quorum=Fraction(stored.quorum),
            least_votes=stored.least_votes,
            enter=parse_units(stored.enter),
            leave=parse_units(stored.leave),
            cooldown_ms=stored.cooldown_ms,
        ),
        voters,
        ThriftRules(timeframe, float(stored.skip_move)),
    )
