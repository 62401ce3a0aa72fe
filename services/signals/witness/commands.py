"""Implement `marketswarm witness key`, `witness run` and `witness forks`."""

import sqlite3
from operator import itemgetter
from pathlib import Path
from typing import Annotated

from marketswarm import log as log_events
from marketswarm.cli import output
from marketswarm.cli.beat import catch_end_signals
from marketswarm.cli.event_loop import run as run_loop
from marketswarm.cli.options import Json, argument, option, port_option
from marketswarm.cli.tables import show
from marketswarm.exit import Mistake
from services.signals.key_file import KeyFileError, make_key_file, read_key_file
from services.signals.log.note import NoteError, PublicKey, SignatureKind, parse_public_key
from services.signals.witness.server import run_witness
from services.signals.witness.store import WitnessStore
from services.signals.witness.witness import Witness

Store = Annotated[Path, option("--store", "FILE", "The SQLite file of what was cosigned.")]


def key(
    name: Annotated[str, argument("NAME", "What others call the witness: witness.example/one.")],
    path: Annotated[Path, argument("FILE", "The file to write the private key to; it must not exist.")],
) -> None:
    """Make the key of a witness: write it to a file, and print its public half.

    The file is readable for you alone. Whoever is to believe this witness needs the line that is printed.
    """
    try:
        made = make_key_file(path, name, SignatureKind.COSIGNATURE)
    except KeyFileError as error:
        raise Mistake(str(error)) from None
    output.print_line(str(made))


def run(
    *,
    key_file: Annotated[Path, option("--key-file", "FILE", "The private key, as `witness key` wrote it.")],
    store: Store,
    log: Annotated[list[str], option("--log", "KEY", "The public key of a log to watch; may be repeated.")],
    host: Annotated[str, option("--host", "HOST", "The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, port_option("--port", "The port to listen on.")] = 8790,
) -> None:
    """Cosign the checkpoints of logs, as long as each continues the one before, until it is stopped.

    It needs no fleet, and is meant for the machine of another person: under one administrator it is a copy,
    and no witness. Never run two with one key, and never restore its file: docs/services/witness.md.
    """
    try:
        logs: dict[str, tuple[PublicKey, ...]] = {}
        for text in log:
            public = parse_public_key(text)
            logs[public.name] = (*logs.get(public.name, ()), public)
    except NoteError as error:
        raise Mistake(f"--log: {error}") from None
    try:
        kept = WitnessStore(store)
    except (OSError, sqlite3.Error) as error:
        raise Mistake(f"--store: {store} can't be used: {error}") from None
    try:
        witness = Witness(read_key_file(key_file, SignatureKind.COSIGNATURE), logs, kept)
        log_events.configure("witness")
        run_loop(_serve(witness, host, port))
    except (NoteError, KeyFileError) as error:
        raise Mistake(f"--key-file: {error}") from None
    finally:
        kept.close()


async def _serve(witness: Witness, host: str, port: int) -> None:
    await run_witness(witness, host, port, catch_end_signals())


def forks(*, store: Store, as_json: Json = False) -> None:
    """Show the checkpoints of logs that did not continue what was cosigned, and prove what they prove.

    Two roots of one size, both signed, prove that a log forked: show both notes to others.
    """
    if not store.exists():
        raise Mistake(f"--store: {store} does not exist")
    kept = WitnessStore(store)
    found = [
        {
            "origin": each.origin,
            "proven": bool(each.is_proven),
            "at": each.at,
            "ours": each.ours.decode(),
            "theirs": each.theirs.decode(),
        }
        for each in kept.list_forks()
    ]
    kept.close()
    if as_json:
        output.print_json(found)
        return
    show(found, {name: itemgetter(name) for name in ("origin", "proven", "at")}, empty="no fork")
    for each in found:
        output.print_line(f"\n{each['ours']}\n{each['theirs']}")
