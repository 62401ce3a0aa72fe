"""What holds on every log by itself, whatever was done: no id twice, and misses and oks by turns. Pure."""

from collections import defaultdict
from collections.abc import Iterable

from soak.ledger import Ledger
from soak.oracle import Account, Told

BEGINS = {"miss", "drift"}
PASSING = {"gap"}


def judge_order(ledger: Ledger, told: Iterable[Told], account: Account) -> None:
    """Asks each bus's log, oldest first."""
    logs: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        logs[one.bus].append(one)
    for found in logs.values():
        _judge_ids(found, account)
        _judge_turns(ledger, found, account)


def _judge_ids(found: list[Told], account: Account) -> None:
    seen: set[str] = set()
    for one in found:
        if one.event["id"] in seen:
            account.find("twice", one.event["svc"], one.at, f"the same id again on {one.bus}", one.event)
        seen.add(one.event["id"])


def _judge_turns(ledger: Ledger, found: list[Told], account: Account) -> None:
    before: dict[tuple[str, str], Told] = {}
    for one in found:
        if one.what in PASSING:
            continue
        key = one.event["type"].rpartition("_")[0], one.event["svc"]
        last = before.get(key)
        down = last is not None and last.what in BEGINS
        if one.what in BEGINS:
            if down:
                text = f"a second {one.what} on {one.bus}"
                account.find("twice", one.event["svc"], one.at, text, one.event)
        elif not down and not _first(ledger, last, one):
            text = f"{one.what} on {one.bus} after {last.event['type'] if last else 'nothing'}"
            account.find("out of order", one.event["svc"], one.at, text, one.event)
        before[key] = one


def _first(ledger: Ledger, last: Told | None, one: Told) -> bool:
    """Whether it is the first ok of one that is watched, or watched again: news for the log alone."""
    if one.what != "ok" or "down_sec" in one.event:
        return False
    since = [terms.since for terms in ledger.terms.get(one.event["svc"], [])]
    return last is None or any(last.ts - 30 <= at <= one.ts + 1 for at in since[1:])
