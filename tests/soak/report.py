"""The account at the end, for people."""

from collections.abc import Iterator

from soak.ledger import HOME, Ledger
from soak.run import Soak
from soak.stretches import merged, total

KINDS = ("false", "missed", "late", "twice", "out of order", "no ok")


def said(soak: Soak) -> Iterator[str]:
    """Line by line."""
    counts, findings = soak.account.counts, soak.account.findings
    of_kind = {kind: sum(finding.kind == kind for finding in findings) for kind in KINDS}
    yield ""
    yield f"ended early: {'yes' if soak.interrupted else 'no'}; seed {soak.plan.seed}"
    yield (
        f"outages     made {counts['outages made']}, owed {counts['outages owed']}, "
        f"told {counts['outages told']}; pauses below T {counts['pauses below T']}"
    )
    yield (
        f"bus losses  made {counts['bus losses made']}, owed {counts['bus losses owed']}, "
        f"told {counts['bus losses told']}, of which excused by the machine {counts['bus losses excused']}"
    )
    yield (
        f"reach gaps  made {counts['reach gaps made']}, owed {counts['reach gaps owed']}, "
        f"told {counts['reach gaps told']}"
    )
    yield f"misses told {counts['misses told']}; gaps told {counts['gaps told']}"
    yield "findings    " + ", ".join(f"{kind} {count}" for kind, count in of_kind.items())
    yield f"beats       {soak.beats} taken by the buses"
    yield "faults      " + ", ".join(f"{kind} {count}" for kind, count in sorted(soak.done.items()))
    sec, svc, at = soak.account.worst_delay
    yield f"delay       at worst {sec:.3f} s beyond what was due ({svc} at {at:.3f})"
    yield f"            over a second: {counts['told over a second late']}"
    clean = [gap for at, gap in soak.takeovers if single(soak.ledger, at, gap)]
    yield (
        f"takeovers   {len(soak.takeovers)}, of which {len(clean)} with one healer out and nothing else; "
        f"worst of those {max(clean, default=0):.2f} s"
    )
    yield f"machine     stood still, or had no processors, for {stood_still_sec(soak.ledger):.0f} s in all"
    for life in soak.memory.longest():
        yield f"memory      {life.said()}"
    for finding in findings:
        yield f"FOUND       {finding.kind}: {finding.svc} at {finding.at:.3f}: {finding.text}"


def stood_still_sec(ledger: Ledger) -> float:
    """For how long this machine stood still, or had hardly a processor."""
    spells = ((spell.start, spell.end) for spell in list(ledger.spells) if spell.target == "machine")
    return total(merged(spells))


def single(ledger: Ledger, at: float, gap: float) -> bool:
    """Whether nothing but the fault of one healer was in the way of a takeover."""
    near = [s for s in ledger.spells if s.start < at and s.end + 4 > at - gap]
    hurt = {s.target for s in near if s.target.startswith("healer:")}
    others = any(s.target in (f"bus:{HOME}", "machine") or s.target.startswith("wire:") for s in near)
    return len(hurt) == 1 and not others
