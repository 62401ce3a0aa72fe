"""Implement `marketswarm witness key`, `witness run` and `witness forks`."""

import os
import sqlite3
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Final

from marketswarm import log as log_events
from marketswarm.cli import output
from marketswarm.cli.beat import catch_end_signals
from marketswarm.cli.event_loop import run as run_loop
from marketswarm.cli.options import Json, argument, option, port_option
from marketswarm.cli.tables import show
from marketswarm.exit import Mistake
from services.signals.log.note import (
    NoteError,
    PrivateKey,
    PublicKey,
    SignatureKind,
    make_key,
    parse_private_key,
    parse_public_key,
)
from services.signals.witness.server import run_witness
from services.signals.witness.store import WitnessStore
from services.signals.witness.witness import Witness

MAX_KEY_BYTES: Final = 10_000
Store = Annotated[Path, option("--store", "FILE", "The SQLite file of what was cosigned.")]


def key(
    name: Annotated[str, argument("NAME", "What others call the witness: witness.example/one.")],
    path: Annotated[Path, argument("FILE", "The file to write the private key to; it must not exist.")],
) -> None:
    """Make the key of a witness: write it to a file, and print its public half.

    The file is readable for you alone. Whoever is to believe this witness needs the line that is printed.
    """
    try:
        made = make_key(name, SignatureKind.COSIGNATURE)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made.export() + "\n")
    except NoteError as error:
        raise Mistake(f"NAME: {error}") from None
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}; nothing was written") from None
    output.print_line(str(made.public))


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
        witness = Witness(_read_key(key_file), logs, kept)
        log_events.configure("witness")
        run_loop(_serve(witness, host, port))
    except NoteError as error:
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


def _read_key(path: Path) -> PrivateKey:
    try:
        with path.open() as file:
            return parse_private_key(file.read(MAX_KEY_BYTES))
    except OSError as error:
        raise Mistake(f"--key-file: {path}: {error.strerror}") from None
