"""Compare engines of backtests on this machine: `python -m bench.peers.engines PYTHON [BARS]`.

PYTHON is that of an environment with nautilus_trader (`python3 -m venv peer; peer/bin/pip install
nautilus_trader`), which plays the same file of bars as a program of its own. Other engines are under the GPL
or the AGPL, so nothing here runs them.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.programs import ROOT, WITHIN_SEC
from bench.signals import play_two, run_bare, write_case
from services.signals.cases import read_case

BARS: Final = 20_000
NAUTILUS: Final = ROOT / "bench/peers/nautilus.py"


def main(python: str, bars: int = BARS) -> None:
    """Print the bars a second of the bare loop, of ours and of the peer, each with two rules."""
    with TemporaryDirectory() as folder:
        write_case(Path(folder), bars)
        line = [python, str(NAUTILUS), folder]
        said = subprocess.run(line, check=True, capture_output=True, text=True, timeout=WITHIN_SEC).stdout
        peer: dict[str, Any] = json.loads(said.splitlines()[-1])
        played = read_case(Path(folder)).bars
        for name, play in (("bare loop", run_bare), ("MarketSwarm", play_two)):
            began = time.process_time()
            play(played)
            print(f"{name:16} {bars / (time.process_time() - began):12,.0f} bars/s")
        print(
            f"{'nautilus_trader':16} {peer['bars'] / peer['seconds']:12,.0f} bars/s, {peer['filled']} fills"
        )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
