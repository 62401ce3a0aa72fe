"""Compare monitors on this machine: `python -m bench.peers [SECONDS]`.

A peer that is not installed is skipped, and named.
"""

import contextlib
import os
import shutil
import sys
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.notify import Receiver
from bench.peers import healthchecks, kuma, nats, ours, prometheus
from bench.peers.peer import measure_peer

PEERS: Final[dict[str, Any]] = {
    "MarketSwarm": ours,
    "Prometheus, Pushgateway, Alertmanager": prometheus,
    "Healthchecks": healthchecks,
    "Uptime Kuma": kuma,
    "NATS JetStream": nats,
}


def main(seconds: float = 10.0) -> None:
    columns: dict[str, dict[str, str]] = {}
    for name, module in PEERS.items():
        if missing := [
            program for program in module.PROGRAMS if not shutil.which(os.path.expandvars(program))
        ]:
            print(f"SKIPPED {name}: not installed: {', '.join(missing)}")
            continue
        with contextlib.closing(Receiver(module.find_names)) as receiver, module.run_peer(receiver) as peer:
            columns[name] = measure_peer(peer, receiver, seconds)
        columns[name]["what differs"] = module.DIFFERENCE
    if not columns:
        return
    table = Table("", *columns, title="Pings over HTTP", title_justify="left")
    for what in next(iter(columns.values())):
        table.add_row(what, *(column[what] for column in columns.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
