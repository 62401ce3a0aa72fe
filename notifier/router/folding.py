"""Which lines say no more than that what they depend on is down: they go with the line that says so. Pure."""

from collections.abc import Sequence

from notifier.router.holding import Holding
from notifier.router.incident import Line, Say

LEADS = (Say.DOWN, Say.AGAIN)


def folded(lines: Sequence[Line], holding: Holding) -> tuple[list[Line], dict[str, list[Line]]]:
    """The lines that stand on their own, and by the id of such a line those that go with it."""
    down = {line.key: line for line in lines if line.say in LEADS}
    leads: list[Line] = []
    with_it: dict[str, list[Line]] = {}
    for line in lines:
        causes = [key for key in holding.causes(line.svc) if key in down] if line.key in down else []
        if line.say in LEADS and causes:
            # the last one found is the farthest: what all the others suffer from too
            with_it.setdefault(down[causes[-1]].id, []).append(line)
        else:
            leads.append(line)
    return leads, with_it
