"""The whole account: everything the oracle has to say of what was told until now. Pure."""

from soak.ledger import Ledger
from soak.listening_times import Hearing
from soak.lost import judge_buses, judge_reach
from soak.oracle import Account, Told, judge_services
from soak.order import judge_order

BUSES = ("system-redis", "market-redis")


def judge(ledger: Ledger, told: list[Told], until: float) -> Account:
    """Holds `told`, each log in its order, against the ledger; nothing is owed that is due after `until`."""
    account = Account()
    hearing = Hearing(ledger, until)
    judge_order(ledger, told, account)
    judge_services(ledger, told, hearing, account)
    judge_buses(BUSES, told, hearing, account)
    judge_reach(BUSES, told, hearing, account)
    _judge_truth(ledger, told, account)
    _judge_watching(told, account)
    account.findings.sort(key=lambda finding: finding.at)
    return account


def _judge_truth(ledger: Ledger, told: list[Told], account: Account) -> None:
    """The documents were never made to differ but for the moment between the two writings of a seeding."""
    for one in told:
        if one.event["type"] == "truth_drift":
            near = any(at - 1 <= one.ts <= at + 15 for at in ledger.seedings)
            away = any(s.start - 1 <= one.ts <= s.end + 15 for s in ledger.spells if s.target[:4] == "bus:")
            if not near and not away:
                account.find("false", one.event["svc"], one.at, "the truth did not drift", one.event)


def _judge_watching(told: list[Told], account: Account) -> None:
    """No bus was made to refuse a healer any channel."""
    for one in told:
        if one.event["type"].startswith("watch_"):
            account.find("false", one.event["svc"], one.at, "no channel was refused", one.event)
