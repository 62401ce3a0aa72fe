"""Make the key of the log of signals for an embedded fleet, and run a witness that cosigns it, as an example.

It stands in the data folder of the same person, so it is a copy and no anchor: who holds both keys can
rewrite both. Its name says so. Nothing is made or run if the environment names a key of the log, or the truth
a witness.

    signals/              ours alone
      log.key             the private key of the log
      log.pub             its public keys, a line each: those that the witness accepts
      witness.key         the private key of the witness
      witness.pub         its public key
      witness.sqlite      what it cosigned; never to be restored from a backup
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from marketswarm.exit import Mistake
from marketswarm.fleet.data_folder import make_private_folder, write_private_file
from marketswarm.fleet.environment import make_server_environ
from marketswarm.fleet.plan import LOOPBACK, SIGNALS, Plan
from marketswarm.fleet.preflight import find_free_port
from marketswarm.settings import is_variable_set
from marketswarm.truth import Truth

FOLDER: Final = "signals"
LOG_KEY_FILE: Final = "SIGNALS_LOG_KEY_FILE"
WITNESS_URL: Final = "SIGNALS_WITNESS_URL"
WITNESS_KEY: Final = "SIGNALS_WITNESS_KEY"
WITNESS: Final = "witness"
"""The name of the child, among the servers of a fleet."""
OWN_WITNESS: Final = "witness-of-this-fleet"
"""The last part of the name of such a witness, after that of the fleet."""
_WITHIN_SEC: Final = 60.0
_COMMAND: Final = (sys.executable, "-m", "marketswarm")


@dataclass(frozen=True, slots=True)
class LogWitness:
    """Hold where the keys of a fleet's log and of its witness are, and the port on which that one listens."""

    folder: Path
    port: int

    @property
    def command(self) -> list[str]:
        """The command line of the witness, with no secret in it."""
        files = (
            "--key-file",
            str(self.folder / "witness.key"),
            "--store",
            str(self.folder / "witness.sqlite"),
        )
        logs = [word for key in _read_lines(self.folder / "log.pub") for word in ("--log", key)]
        return [*_COMMAND, "witness", "run", *files, *logs, "--port", str(self.port)]

    @property
    def child_environ(self) -> dict[str, str]:
        """The environment of the witness, as agents log; it knows no bus and no database."""
        return make_server_environ(os.environ) | {"LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}

    def environ(self) -> dict[str, str]:
        """Return the variables by which signals signs, and finds the witness."""
        return {
            LOG_KEY_FILE: str(self.folder / "log.key"),
            WITNESS_URL: f"http://{LOOPBACK}:{self.port}",
            WITNESS_KEY: _read_lines(self.folder / "witness.pub")[0],
        }


def prepare_log_witness(
    plan: Plan, truth: Truth, truth_path: Path, data: Path, environ: Mapping[str, str]
) -> LogWitness | None:
    """Make the keys in the data folder unless they are there; None for a fleet that needs none of ours.

    Raises Exit, code 2, if they can't be made, and OSError.
    """
    if not any(agent.svc == SIGNALS for agent in plan.agents) or find_spec("cryptography") is None:
        return None
    settings = truth.services[SIGNALS].settings
    if any(is_variable_set(name, environ) for name in (LOG_KEY_FILE, WITNESS_URL)) or settings.get(WITNESS):
        return None
    folder = data / FOLDER
    if not folder.exists():
        _make_keys(folder, truth, truth_path)
    make_private_folder(folder)
    return LogWitness(folder, find_free_port())


def _make_keys(folder: Path, truth: Truth, truth_path: Path) -> None:
    """Make both keys in a folder beside it, which takes its name once all is there.

    What an attempt before left there is deleted: no program has used those keys.
    """
    draft = folder.with_name(f"{folder.name}.new")
    if draft.exists():
        make_private_folder(draft)
        shutil.rmtree(draft)
    make_private_folder(draft)
    log = ("signals", "key", str(draft / "log.key"), "--truth", str(truth_path))
    write_private_file(draft / "log.pub", _make_key(log))
    fleet = "".join("-" if char.isspace() or char == "+" else char for char in truth.fleet) or "marketswarm"
    witness = ("witness", "key", f"{fleet}/{OWN_WITNESS}", str(draft / "witness.key"))
    write_private_file(draft / "witness.pub", _make_key(witness))
    draft.rename(folder)


def _make_key(words: Sequence[str]) -> bytes:
    """Run a command that makes a key, and return the public half. Raises Exit, code 2."""
    line = [*_COMMAND, *words]
    ended = subprocess.run(  # noqa: S603 - this program, by this interpreter
        line, capture_output=True, check=False, timeout=_WITHIN_SEC
    )
    if ended.returncode:
        raise Mistake(
            f"the key of the log could not be made: {ended.stderr.decode(errors='replace').strip()}"
        )
    return ended.stdout


def _read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split()
