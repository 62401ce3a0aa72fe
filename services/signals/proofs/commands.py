"""Implement `marketswarm audit` and the commands of `marketswarm signals` about keys and single signals."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, read_database
from marketswarm.cli.options import Data, argument, option, time_option
from marketswarm.exit import Exit, Mistake
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.pool import open_connection
from marketswarm.settings import CommonSettings, read_settings
from services.market.fields import SYMBOL
from services.signals import verify
from services.signals.key_file import KeyFileError, make_key_file
from services.signals.log.note import SignatureKind
from services.signals.proofs.followed_places import PlacesChangedError
from services.signals.proofs.proof import ProofUnavailableError, WrittenProof, write_proof

READ_SEC: Final = 3600.0
"""How long reading a proof from the database may take."""


class AuditEnvironment(CommonSettings):
    """The variables of these commands; the first database that is set is read."""

    signals_database_url: SecretStr | None = None
    database_url: SecretStr | None = None
    signals_log_key_file: Path | None = None


def key(
    name: Annotated[
        str, argument("ORIGIN", "The name of the log, as its settings have it: example.org/signals.")
    ],
    path: Annotated[Path, argument("FILE", "The file to write the private key to; it must not exist.")],
) -> None:
    """Make the key that signs a log: write it to a file, and print its public half.

    The file is readable for you alone; SIGNALS_LOG_KEY_FILE names it to the service. Witnesses and whoever
    checks proofs need the line that is printed. Nothing is written over.
    """
    try:
        made = make_key_file(path, name, SignatureKind.ED25519)
    except KeyFileError as error:
        raise Mistake(str(error)) from None
    output.print_line(str(made))


def prove(
    symbol: Annotated[str, argument("SYMBOL", "Whose places are proven.")],
    *,
    since: Annotated[str, option("--from", "2026-11-01", "From when on: a day or a time, in UTC.")],
    until: Annotated[str, option("--to", "2026-11-30", "Until when: a day, to its end, or a time.")],
    out: Annotated[Path | None, option("--out", "FILE", "Where to write it; by default it is shown.")] = None,
    data: Data = DATA,
) -> None:
    """Write the proof of what the log says of a symbol: each tick of a time, under a cosigned checkpoint.

    Whoever gets the file checks it with verify.py, or `audit verify`, and needs nothing else of yours. It
    reads the database of SIGNALS_DATABASE_URL, of DATABASE_URL, or of the fleet in the folder --data. It ends
    with code 1 if the stored rows contradict the log, and with 3 if nothing of that time is cosigned.
    """
    if not SYMBOL.fullmatch(symbol):
        raise typer.BadParameter("is no symbol", param_hint="SYMBOL")
    begin, end = _parse_moment("--from", since, is_end=False), _parse_moment("--to", until, is_end=True)
    address = _find_database(data)

    async def read(write: Callable[[str], Any]) -> WrittenProof:
        async with open_connection(address, READ_SEC) as connection:
            return await write_proof(connection, symbol, begin, end, write)

    try:
        with _open_output(out) as write:
            proof = event_loop.run(read(write))
    except ProofUnavailableError as error:
        raise Exit(verify.UNAVAILABLE, f"unavailable: {error}") from None
    except PlacesChangedError as error:
        raise Exit(verify.REFUTED, f"refuted: {error}") from None
    except PostgresAwayError as error:
        raise Exit(verify.UNAVAILABLE, f"unavailable: {error}") from None
    except OSError as error:
        raise Mistake(f"{out}: {error.strerror or error}") from None
    if out is not None:
        of = f"{proof.count:,} entries of {proof.symbol}, from {proof.first:,} on"
        output.print_line(f"wrote {out}: {of}, of a log of {proof.size:,} that is cosigned")


def verify_file(
    path: Annotated[Path, argument("FILE", "What `audit prove` wrote.")],
    *,
    log: Annotated[list[str], option("--log", "KEY", "A public key of the log; may be given again.")],
    witness: Annotated[str, option("--witness", "KEY", "The public key of the witness.")],
    symbol: Annotated[str | None, option("--symbol", "SPY", "What the file must be about.")] = None,
    max_age: Annotated[
        float | None, time_option("--max-age", "1h", "The oldest that the cosignature may be.")
    ] = None,
) -> None:
    """Check a proof: the result is `proven`, `refuted` with the first place that is wrong, or `unavailable`.

    It is the same check as that of verify.py, a file that needs nothing of ours: it ends with 0, 1 or 3.
    """
    words = [str(path), "--witness", witness, *(word for each in log for word in ("--log", each))]
    words += [] if symbol is None else ["--symbol", symbol]
    words += [] if max_age is None else ["--max-age", str(max_age)]
    code = verify.main(words)
    if code:
        sys.stdout.flush()
        raise typer.Exit(code)


def _parse_moment(name: str, text: str, *, is_end: bool) -> datetime:
    """Return a time of UTC; of a day its begin, or its last moment. Raises BadParameter."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        is_day = len(text) <= len("2026-11-30")
        return found + timedelta(days=1, microseconds=-1) if is_day and is_end else found
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text[:40]!r} is no day or time", param_hint=name) from None


def _find_database(data: Path) -> str:
    """Return the URL of the database that is read. Raises Mistake if there is none."""
    environment = read_settings(AuditEnvironment)
    url = environment.signals_database_url or environment.database_url
    return read_database(data)[0] if url is None else url.get_secret_value()


@contextmanager
def _open_output(path: Path | None) -> Iterator[Callable[[str], Any]]:
    """Yield a function that writes text to a file, or to the terminal.

    The file is there once the block ends: until then its lines are in a draft beside it, which is deleted if
    the block raises. A draft that was left there is written over.
    """
    if path is None:
        yield sys.stdout.write
        return
    draft = path.with_name(f"{path.name}.new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield file.write
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
