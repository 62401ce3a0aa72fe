"""Implement `marketswarm audit` and the commands of `marketswarm signals` about keys and single signals."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from pydantic import SecretStr

from marketswarm.agent.service_config import require_config
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, read_database
from marketswarm.cli.fleet_view import ask_fleet
from marketswarm.cli.options import TRUTH, Data, Json, argument, option, time_option
from marketswarm.cli.tables import show
from marketswarm.cli.truth import find_revision
from marketswarm.cli.validate import read_valid_truth
from marketswarm.exit import Exit, Mistake
from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.text import escape_text, parse_digits
from marketswarm.truth import TruthError, parse_truth
from services.market.fields import SYMBOL
from services.signals import verify
from services.signals.consensus.consensus import ConsensusRules, format_number
from services.signals.cycle.decide import TickRules
from services.signals.cycle.tick_rules import encode_rules, restore_rules
from services.signals.key_file import KeyFileError, make_key_file, read_key_file
from services.signals.leader import make_rules
from services.signals.log.entries import DECIDED
from services.signals.log.note import SignatureKind
from services.signals.proofs.explain import SignalInputs, read_inputs
from services.signals.proofs.followed_places import PlacesChangedError
from services.signals.proofs.proof import ProofUnavailableError, WrittenProof, write_proof
from services.signals.proofs.recompute import Recomputed, RecomputeResult, recompute_place
from services.signals.proofs.rotation import RotationError, change_key
from services.signals.settings import SignalsSettings, find_origin
from services.signals.store.database import LogMovedError, SignalDatabase
from services.tables.signals import parse_signal_id

SIGNALS: Final = "signals"
NOT_ROTATED: Final = 1
"""The exit code if the key could not be changed now."""


class AuditEnvironment(CommonSettings):
    """The variables of these commands; the first database that is set is read."""

    signals_database_url: SecretStr | None = None
    database_url: SecretStr | None = None
    signals_log_key_file: Path | None = None


def key(
    path: Annotated[Path, argument("FILE", "The file to write the private key to; it must not exist.")],
    *,
    origin: Annotated[
        str | None, option("--origin", "NAME", "The name of the log; by default the one that the truth says.")
    ] = None,
    truth: Annotated[Path, option("--truth", "FILE", "The truth with the section of signals.")] = TRUTH,
) -> None:
    """Make the key that signs a log: write it to a file, and print its public half.

    The file is readable for you alone; SIGNALS_LOG_KEY_FILE names it to the service. Witnesses and whoever
    checks proofs need the line that is printed. Nothing is written over.
    """
    try:
        made = make_key_file(path, origin or _read_origin(truth), SignatureKind.ED25519)
    except KeyFileError as error:
        raise Mistake(str(error)) from None
    output.print_line(str(made))


def _read_origin(path: Path) -> str:
    """Return the name of the log by a truth file. Raises Mistake if it has no signals."""
    truth = read_valid_truth(path)
    section = truth.services.get(SIGNALS)
    if section is None:
        raise Mistake(f"{path}: has no {SIGNALS}; name the log by --origin")
    return find_origin(require_config(SignalsSettings, SIGNALS, section), truth)


def rotate(
    path: Annotated[Path, argument("FILE", "The file of the new key, as `signals key` wrote it.")],
    *,
    data: Data = DATA,
) -> None:
    """Change the key of the log: add an entry that the old key (SIGNALS_LOG_KEY_FILE) and the new one sign.

    From that entry on the new key counts: the service signs nothing until it has its file, and a witness
    refuses it until it was told the new line by another --log. An entry is never taken back.
    """
    environment = read_settings(AuditEnvironment)
    if environment.signals_log_key_file is None:
        raise Mistake("SIGNALS_LOG_KEY_FILE: must name the file of the key in force")
    address = _find_database(data, to_write=True)
    try:
        old, new = (
            read_key_file(each, SignatureKind.ED25519) for each in (environment.signals_log_key_file, path)
        )

        async def change() -> int:
            async with contextlib.aclosing(SignalDatabase(address)) as database:
                return await change_key(database, old, new)

        number = event_loop.run(change())
    except (KeyFileError, RotationError) as error:
        raise Mistake(str(error)) from None
    except (PostgresAwayError, RefusedRowsError, LogMovedError) as error:
        raise Exit(NOT_ROTATED, f"the key was not changed: {error}") from None
    output.print_line(f"entry {number:,}: from here on this key signs: {new.public}")


def explain(
    ident: Annotated[str, argument("ID", "The id of a signal: 64 digits, as its page and the API have it.")],
    *,
    truth: Annotated[
        Path | None, option("--truth", "FILE", "The truth that weighed it; by default the fleet's revision.")
    ] = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Decide a stored signal once more from what is stored, and compare it with what the log has.

    It ends with code 0 if the same bytes come out, with 1 if others do, and with 3 if an input is gone by
    retention or was corrected since: it says which.
    """
    if parse_signal_id(ident) is None:
        raise typer.BadParameter("is no id: 64 digits of 0-9 and a-f", param_hint="ID")
    address = _find_database(data)

    async def read() -> SignalInputs | None:
        async with contextlib.aclosing(SignalDatabase(address)) as database:
            return await read_inputs(database, ident)

    try:
        inputs = event_loop.run(read())
    except PostgresAwayError as error:
        raise Exit(verify.UNAVAILABLE, f"unavailable: {error}") from None
    if inputs is None:
        raise Mistake(f"there is no signal {ident}")
    rules = _read_rules(inputs, truth, data)
    found = recompute_place(inputs.signal.content.encode(), inputs.signal.at, inputs.bars, rules)
    _show_explanation(inputs, found, rules, as_json=as_json)
    if found.result is not RecomputeResult.SAME:
        is_other = found.result is RecomputeResult.DIFFERENT
        raise typer.Exit(verify.REFUTED if is_other else verify.UNAVAILABLE)


def _read_rules(inputs: SignalInputs, path: Path | None, data: Path) -> TickRules | None:
    """Return the rules that a signal was weighed by; None if they are not kept.

    They are those that its entry names; of an older entry, which names none, those of its truth's revision.
    """
    if inputs.signal.outcome not in DECIDED:
        return None
    if path is not None:
        truth = read_valid_truth(path)
    elif inputs.rules is not None and (restored := restore_rules(inputs.rules)) is not None:
        return restored
    else:
        number = parse_digits(inputs.entry["truth"])
        if number is None:
            return None
        try:
            document = ask_fleet(data, lambda fleet: find_revision(fleet, number)).document
            truth = parse_truth(document).truth
        except (Exit, TruthError) as error:
            output.print_line(f"revision {number} of the truth: {error}", output.DIM)
            return None
    section = truth.services.get(SIGNALS)
    return None if section is None else make_rules(require_config(SignalsSettings, SIGNALS, section))


def _show_explanation(
    inputs: SignalInputs, found: Recomputed, rules: TickRules | None, *, as_json: bool
) -> None:
    signal = inputs.signal
    place = orjson.loads(signal.content)
    facts = {"id": signal.id, "symbol": signal.symbol, "tick": signal.tick, "entry": signal.n}
    facts |= {"code": inputs.entry["code"], "truth": inputs.entry["truth"]}
    if as_json:
        result = {"result": str(found.result), "why": found.words, "differences": found.differences}
        used = None if rules is None else orjson.loads(encode_rules(rules))
        output.print_json({**facts, **result, "rules": used, "place": place})
        return
    for name, value in facts.items():
        output.print_line(f"{name:15} {value}")
    for name in ("outcome", "before", "side", "score", "conflict", "participation", "why"):
        if name in place:
            output.print_line(f"{name:15} {escape_text(str(place[name]))}")
    if rules is not None:
        output.print_line(f"{'rules':15} {_describe_rules(rules.consensus)}")
    weights = {} if rules is None else rules.consensus.weights
    votes = [
        {"voter": name, "weight": format_number(weights.get(name)) or "", **_describe_vote(vote)}
        for name, vote in place.get("votes", {}).items()
    ]
    if votes:
        output.print_line("")
        show(votes, {name: itemgetter(name) for name in ("voter", "weight", "vote", "reasons")})
    output.print_line("")
    output.print_line(f"{found.result}: {found.words}")
    for each in found.differences:
        output.print_line(f"  {each}")


def _describe_rules(rules: ConsensusRules) -> str:
    """Return by which thresholds votes became a side: those that were in force."""
    side = f"a side begins at {format_number(rules.enter)} and ends below {format_number(rules.leave)}"
    least = f"{float(rules.quorum):.0%} of all weight and {rules.least_votes} votes at least"
    return f"{side}, {rules.cooldown_ms / 1000:g} s apart; {least}"


def _describe_vote(vote: dict[str, Any]) -> dict[str, str]:
    if "abstained" in vote:
        return {"vote": f"abstains: {vote['abstained']}", "reasons": ""}
    said = f"{vote['direction']:+d} x {vote['strength']} x {vote['confidence']}"
    return {"vote": said, "reasons": "; ".join(map(escape_text, vote["reasons"]))}


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
        async with contextlib.aclosing(SignalDatabase(address)) as database:
            return await write_proof(database, symbol, begin, end, write)

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


def _find_database(data: Path, *, to_write: bool = False) -> str:
    """Return the URL of the database, with `to_write` that of the role that may add. Raises Mistake."""
    environment = read_settings(AuditEnvironment)
    url = environment.signals_database_url or (None if to_write else environment.database_url)
    return read_database(data, SIGNALS if to_write else "")[0] if url is None else url.get_secret_value()


@contextlib.contextmanager
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
