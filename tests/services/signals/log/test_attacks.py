"""Each attack on the log is found, and named, by the offline file alone or by the witness.

The log here is honest unless a test says how it lies; the offline file runs as its own program in one test,
and by its functions in the others.
"""

import asyncio
import base64
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.signals import verify
from services.signals.log.bundle import AuditedEntry, format_audited, format_head
from services.signals.log.checkpoint import Checkpoint
from services.signals.log.entries import (
    PlaceOutcome,
    TickPlaces,
    encode_entry,
    join_places,
    make_gap,
    make_key_change,
    make_key_statement,
    make_place,
    make_tick,
)
from services.signals.log.merkle import append_entry, hash_entry, hash_span, hash_tree
from services.signals.log.note import (
    PrivateKey,
    PublicKey,
    SignatureKind,
    make_key,
    parse_private_key,
)
from services.signals.log.places import prove_place
from services.signals.proofs.signer import SigningProblem
from services.signals.proofs.witness_client import WitnessReason
from support.witness_rig import WitnessRig

ORIGIN = "log.example/signals"
BEGIN_MS = 1_790_000_000_000
SYMBOLS = ("AAPL", "MSFT", "SPY", "XLF", "XLK")
AS_MADE = {"code": "0.1.0", "truth": "7", "consensus": "6.0"}


@dataclass
class AttackedLog:
    """A log of ticks of five symbols, which a test may let lie."""

    key: PrivateKey
    entries: list = field(default_factory=list)  # each a text, and the places of a tick
    nodes: dict = field(default_factory=dict)
    ticks: int = 0

    def add(self, text: bytes, places=None) -> None:
        self.nodes.update(append_entry(len(self.entries), self.nodes, hash_entry(text)))
        self.entries.append((text, places))

    def add_tick(self, at_ms=None, tick=None, number=None, symbols=SYMBOLS, scores=None) -> None:
        self.ticks = self.ticks + 1 if tick is None else tick
        score = str((scores or {}).get(self.ticks, self.ticks))
        places = join_places(
            {
                name: make_place(name, PlaceOutcome.SIGNAL, tick=self.ticks, score=score, side="long")
                for name in symbols
            }
        )
        self.add_places(places, at_ms, number)

    def add_places(self, places, at_ms=None, number=None) -> None:
        at_ms = BEGIN_MS + 5000 * self.ticks if at_ms is None else at_ms
        number = len(self.entries) if number is None else number
        self.add(make_tick(number, self.ticks, at_ms, places, **AS_MADE), places)

    def sign(self, size=None, key=None) -> bytes:
        size = len(self.entries) if size is None else size
        text = Checkpoint(ORIGIN, size, hash_span((0, size), self.nodes)).format()
        return text + b"\n" + (key or self.key).sign(text).encode()


@pytest.fixture
def log():
    made = AttackedLog(make_key(ORIGIN, SignatureKind.ED25519))
    for _ in range(21):
        made.add_tick()
    return made


@pytest.fixture
def witness():
    return make_key("witness.example/one", SignatureKind.COSIGNATURE)


def cosign(note: bytes, witness: PrivateKey, at_sec: int | None = None) -> bytes:
    text = note.partition(b"\n\n")[0] + b"\n"
    return note + witness.sign(text, at_sec or BEGIN_MS // 1000 + 300).encode()


def make_file(log, witness, symbol="SPY", *, first=4, end=17, note=None) -> list:
    note = cosign(log.sign(), witness) if note is None else note
    lines = [format_head(symbol, note, first, end - first, log.nodes)]
    before = None
    for text, places in log.entries[first:end]:
        proof = None if places is None else prove_place(places, symbol)
        symbols = None if places is None or places.symbols == before else places.symbols
        lines.append(format_audited(AuditedEntry(text, proof, symbols)))
        before = before if places is None else places.symbols
    return [json.loads(line) for line in lines]


def check(lines, log, witness, *, symbol="SPY", keys=(), max_age=1e9, now=BEGIN_MS / 1000 + 400) -> str:
    texts = iter([to_line(line) if isinstance(line, dict) else line for line in lines])
    trusted = [verify.parse_key(str(key)) for key in keys or [log.key.public]]
    checker = verify.Checker(trusted, verify.parse_key(str(witness.public)), symbol)
    try:
        return "proven: " + verify.verify(texts, checker, now, max_age)
    except verify.NotProven as found:
        return f"{verify.WORDS[found.args[1]]}: {found.args[0]}"


def to_line(content: dict) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def rewrite(line: dict, name: str, /, **changes) -> dict:
    """Return a line with an entry or a place in which something was changed, in its one form."""
    return {**line, name: encode_entry({**json.loads(line[name]), **changes}).decode()}


def test_what_the_log_says_is_proven_for_any_symbol_and_span(log, witness):
    for symbol in SYMBOLS:
        for first, end in [(0, 21), (4, 17), (20, 21), (0, 1), (7, 16)]:
            found = check(make_file(log, witness, symbol, first=first, end=end), log, witness, symbol=symbol)
            assert found == f"proven: {end - first} entries of {symbol} in {ORIGIN}, cosigned 100 s ago"


def put(line, name, **changes):
    """Return an attack that changes the entry or the place of a line of the file."""
    return lambda file: file.__setitem__(line, rewrite(file[line], name, **changes))


def renumber(file) -> None:
    """Leave a row out, and give the numbers of those after it to the ones that follow."""
    file[5:] = [rewrite(each, "entry", n=8 + at) for at, each in enumerate(file[6:])]


def pass_off(file) -> None:
    """Say that a tick had one place, the one that is shown."""
    root = hash_entry(file[5]["place"].encode()).hex()
    file[5] = rewrite({**file[5], "path": [], "index": 0}, "entry", places=1, root=root)


def change_note(old: str, new: str):
    return lambda file: file[0].update(checkpoint=file[0]["checkpoint"].replace(old, new, 1))


def drop_signature(at: int):
    def drop(file) -> None:
        lines = file[0]["checkpoint"].splitlines(keepends=True)
        del lines[at]
        file[0]["checkpoint"] = "".join(lines)

    return drop


UNSIGNED = "entries: not the ones that were signed"
NOT_LOGGED = "tick 9: the place is not the one that was logged"
CHANGES = {
    "a field of a place": (put(5, "place", score="9.5"), NOT_LOGGED),
    "a side of a place": (put(5, "place", side="short"), NOT_LOGGED),
    "a field of an entry": (put(5, "entry", truth="8"), UNSIGNED),
    "the time of an entry": (
        lambda f: f.__setitem__(
            5, rewrite(f[5], "entry", at=json.loads(f[5]["entry"])["at"].replace(".000", ".001"))
        ),
        UNSIGNED,
    ),
    "a clock that went back": (
        put(5, "entry", at="1999-01-01T00:00:00.000Z"),
        "entry 8: its time is before the one before",
    ),
    "a row left out": (lambda f: f.pop(5), "entry 8: it is another one's"),
    "a row left out and the ones after renumbered": (renumber, "entry 8: tick 9 is missing"),
    "two rows in another order": (lambda f: f.insert(5, f.pop(6)), "entry 8: it is another one's"),
    "a row twice": (lambda f: f.insert(5, f[5]), "entry 9: it is another one's"),
    "the tail cut off": (lambda f: f.pop(), "entry 16: missing"),
    "the tail cut off and the count with it": (lambda f: (f.pop(), f[0].update(count=12)), UNSIGNED),
    "all entries left out": (lambda f: f.__setitem__(slice(1, None), []), "entry 4: missing"),
    "a symbol left out of a tick": (lambda f: f[5].pop("place"), "tick 9: no place of SPY"),
    "the place of another symbol": (put(5, "place", symbol="XLK"), "tick 9: the place of XLK, not SPY"),
    "a place of another tick": (lambda f: f[5].update(place=f[6]["place"]), NOT_LOGGED),
    "an index shifted": (lambda f: f[5].update(index=1), "tick 9: 1 is not its index"),
    "an index beyond the tick": (lambda f: f[5].update(index=5), "tick 9: 5 is not its index"),
    "an index before the tick": (lambda f: f[5].update(index=-1), "tick 9: -1 is not its index"),
    "an index counted from the end": (lambda f: f[5].update(index=-3), "tick 9: -3 is not its index"),
    "an index with a point": (lambda f: f[5].update(index=2.0), "entry 8: not in its one form"),
    "an empty path": (lambda f: f[5].update(path=[]), NOT_LOGGED),
    "a path of one step more": (
        lambda f: f[5]["path"].append("AAAA"),
        "a path is longer than its tree is high",
    ),
    "a tree of one place passed off": (pass_off, "tick 9: had other symbols"),
    "the same content in a second form": (
        lambda f: f[5].update(entry=f[5]["entry"].replace(":", ": ")),
        "entry 8: not in its one form",
    ),
    "a key of JSON twice": (
        lambda f: f[5].update(place=f[5]["place"].replace('"score"', '"score":"1","score"')),
        "tick 9: not in its one form",
    ),
    "a line in a second form": (
        lambda f: f.__setitem__(5, json.dumps(f[5])),
        "entry 8: not in its one form",
    ),
    "a key of a line twice": (
        lambda f: f.__setitem__(5, to_line(f[5]).replace('"place"', '"place":"{}","place"')),
        "entry 8: not in its one form",
    ),
    "a word that is in no proof": (lambda f: f[5].update(side="short"), "entry 8: it has what nobody checks"),
    "a word in the head that is in no proof": (lambda f: f[0].update(side="short"), "line 1: not of this"),
    "a head about another symbol": (
        lambda f: f[0].update(symbol="XLF"),
        "line 1: about XLF, not SPY",
    ),
    "a hash beside left out": (lambda f: f[0]["hashes"].pop(), UNSIGNED),
    "a hash beside too many": (lambda f: f[0]["hashes"].append(f[0]["hashes"][0]), UNSIGNED),
    "a hash beside changed": (lambda f: f[0]["hashes"].__setitem__(0, "A" * 43 + "="), UNSIGNED),
    "all shifted by one": (lambda f: f[0].update(first=5), "entry 5: it is another one's"),
    "a size that is larger": (change_note("\n21\n", "\n22\n"), "witness.example/one is false"),
    "another root": (change_note("\n21\n", "\n21\nAAAA\n"), "witness.example/one is false"),
    "another log": (change_note(ORIGIN, "log.example/other"), "witness.example/one is false"),
    "no cosignature": (drop_signature(-1), "unavailable: the checkpoint is not witnessed yet"),
    "no signature of the log": (drop_signature(-2), f"no key of {ORIGIN} signed it"),
    "a file about another symbol": (lambda f: f[0].update(symbol="XLF"), "tick 5: the place of SPY"),
    "another format": (lambda f: f[0].update(format="x"), "line 1: not of this format"),
}


@pytest.mark.parametrize("attack", CHANGES)
def test_a_change_of_a_file_is_found_and_named(log, witness, attack):
    change, named = CHANGES[attack]
    lines = make_file(log, witness)
    change(lines)
    symbol = None if attack == "a file about another symbol" else "SPY"
    found = check(lines, log, witness, symbol=symbol)
    assert named in found
    assert "proven" not in found


def test_a_whole_rewrite_with_the_stolen_key_is_not_witnessed(log, witness):
    forged = AttackedLog(log.key)
    for _ in range(21):
        forged.add_tick(scores={9: -9})
    real = cosign(log.sign(), witness).decode().splitlines(keepends=True)[-1]
    lines = make_file(forged, witness, note=forged.sign() + real.encode())
    assert (
        check(lines, forged, witness) == "refuted: checkpoint: the signature of witness.example/one is false"
    )
    alone = make_file(forged, witness, note=forged.sign())
    assert check(alone, forged, witness) == "unavailable: the checkpoint is not witnessed yet"


def test_the_log_can_not_be_its_own_witness(log, witness):
    secret = base64.b64decode(log.key.export().split("+", 4)[4])
    raw = base64.b64encode(bytes([SignatureKind.COSIGNATURE]) + secret[1:]).decode()
    public = PublicKey("witness.example/one", SignatureKind.COSIGNATURE, log.key.public.key)
    same = parse_private_key(f"PRIVATE+KEY+{public.name}+{public.ident.hex()}+{raw}")
    lines = make_file(log, same, note=cosign(log.sign(), same))
    assert check(lines, log, same) == "refuted: witness: the log cosigned itself"
    other = make_key("log.example/other", SignatureKind.ED25519)
    assert check(make_file(log, witness), log, other) == "refuted: witness: not the key of a witness"


def test_one_index_is_one_place_whatever_the_tree_of_a_tick_holds(log, witness):
    # the log's owner hashes a second place of SPY over a name that nobody asks about
    log.ticks += 1
    symbols = ("AAA", "SPY", "ZZZ")
    long, short = (
        make_place("SPY", PlaceOutcome.SIGNAL, tick=22, score="1", side=side) for side in ("long", "short")
    )
    aaa = make_place("AAA", PlaceOutcome.SIGNAL, tick=22, score="1", side="long")
    junk = hash_entry(b"anything")
    left, right = hash_tree([hash_entry(aaa), hash_entry(long)]), hash_tree([hash_entry(short), junk])
    places = TickPlaces(symbols, (aaa, long, b""), known_root=hash_tree([left, right]))
    log.add_places(places)
    file = make_file(log, witness, first=21, end=22)
    path = [base64.b64encode(each).decode() for each in (junk, left)]
    file[1] |= {"place": short.decode(), "path": path, "index": -2}
    assert check(file, log, witness) == "refuted: tick 22: -2 is not its index"


def test_a_file_of_gaps_proves_nothing_of_a_symbol(log, witness):
    log.add(make_gap(21, 22, 30, BEGIN_MS + 150_000, "database away"))
    lines = make_file(log, witness, first=21, end=22)
    assert check(lines, log, witness) == "unavailable: no entry here has a place of SPY"


def test_a_gap_has_no_place(log, witness):
    log.add(make_gap(21, 22, 30, BEGIN_MS + 150_000, "database away"))
    lines = make_file(log, witness, end=22)
    lines[-1]["place"] = lines[-2]["place"]
    assert check(lines, log, witness) == "refuted: entry 21: it has what nobody checks"


def test_what_a_file_says_steers_no_terminal(log, witness, tmp_path, capsys):
    lines = make_file(log, witness)
    place = {**json.loads(lines[1]["place"]), "symbol": "\r\x1b[2Kproven: 2 entries\x1b[8m\ud800"}
    lines[1]["place"] = json.dumps(place, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    path = tmp_path / "b.audit"
    path.write_text("".join(to_line(line) + "\n" for line in lines), errors="surrogatepass")
    keys = ["--log", str(log.key.public), "--witness", str(witness.public)]
    assert verify.main([str(path), *keys]) == verify.REFUTED
    path.write_text(path.read_bytes().decode(errors="replace"))
    assert verify.main([str(path), *keys]) == verify.REFUTED
    said = capsys.readouterr().out
    assert said.count("\n") == 2
    assert said.replace("\n", "").isprintable()
    assert r"the place of \r\x1b[2Kproven" in said


def test_an_old_view_is_told_by_its_age(log, witness):
    lines = make_file(log, witness)
    found = check(lines, log, witness, max_age=60)
    assert found == "unavailable: the cosignature is 100 seconds old"


def test_entries_dated_after_their_cosignature_are_found(log, witness):
    log.add_tick(at_ms=BEGIN_MS + 86_400_000)
    lines = make_file(log, witness, end=22)
    assert check(lines, log, witness) == "unavailable: cosigned before its last entry: a clock was wrong"


def test_a_tick_left_out_by_the_log_itself_is_found(log, witness):
    log.add_tick(tick=23)
    assert check(make_file(log, witness, end=22), log, witness) == "refuted: entry 21: tick 22 is missing"


def test_a_gap_that_is_written_is_none_that_is_hidden(log, witness):
    log.add(make_gap(21, 22, 30, BEGIN_MS + 150_000, "database away"))
    log.add_tick(tick=31)
    assert check(make_file(log, witness, end=23), log, witness).startswith("proven: 19 entries")
    log.add(make_gap(23, 33, 40, BEGIN_MS + 250_000, "database away"))
    assert check(make_file(log, witness, end=24), log, witness) == "refuted: entry 23: tick 32 is missing"


def test_a_gap_that_goes_back_and_a_tick_that_comes_again_are_found(log, witness):
    log.add(make_gap(21, 22, 3, BEGIN_MS + 150_000, "database away"))
    assert check(make_file(log, witness, end=22), log, witness) == "refuted: entry 21: its ticks go back"


def test_a_place_that_follows_from_a_tick_that_was_not_the_last_is_found(log, witness):
    log.ticks += 1
    for since, found in [(21, "proven"), (20, "refuted: tick 22: its place is of another tick")]:
        again = AttackedLog(log.key, [*log.entries], dict(log.nodes), log.ticks)
        again.add_places(
            join_places({name: make_place(name, PlaceOutcome.UNCHANGED, since=since) for name in SYMBOLS})
        )
        assert check(make_file(again, witness, end=22), again, witness).startswith(found)


def test_a_symbol_that_a_tick_does_not_have_can_not_be_bundled(log, witness):
    log.add_tick(symbols=SYMBOLS[:2])
    with pytest.raises(ValueError, match="the tick has no SPY"):
        make_file(log, witness, end=22)


def change_key(log, new, signers) -> None:
    number = len(log.entries)
    old_text, new_text = str(log.key.public), str(new.public)
    statement = make_key_statement(ORIGIN, number, old_text, new_text)
    lines = [each.sign(statement).rstrip("\n") for each in signers]
    at_ms = BEGIN_MS + 5000 * log.ticks
    log.add(make_key_change(number, at_ms, old_text, new_text, lines))


def test_a_new_key_counts_from_the_entry_that_both_keys_signed(log, witness):
    new = make_key(ORIGIN, SignatureKind.ED25519)
    change_key(log, new, [log.key, new])
    log.add_tick()
    note = cosign(log.sign(key=new), witness)
    assert check(make_file(log, witness, end=23, note=note), log, witness).startswith("proven: 19 entries")
    # the file that does not have the change can't make the new key known
    unknown = make_file(log, witness, end=17, note=note)
    assert check(unknown, log, witness) == f"refuted: checkpoint: no key of {ORIGIN} signed it"


def test_an_old_key_signs_nothing_from_its_change_on(log, witness):
    new = make_key(ORIGIN, SignatureKind.ED25519)
    change_key(log, new, [log.key, new])
    log.add_tick(scores={22: -9})  # by whoever stole the old one
    stolen = make_file(log, witness, end=23, note=cosign(log.sign(), witness))
    assert check(stolen, log, witness) == f"refuted: checkpoint: no key of {ORIGIN} signed it"
    both = [log.key.public, new.public]
    assert check(stolen, log, witness, keys=both) == f"refuted: checkpoint: no key of {ORIGIN} signed it"


def test_a_new_key_that_the_old_one_did_not_sign_is_found(log, witness):
    thief = make_key(ORIGIN, SignatureKind.ED25519)
    change_key(log, thief, [thief])
    note = cosign(log.sign(key=thief), witness)
    assert "did not sign" in check(make_file(log, witness, end=22, note=note), log, witness)


def test_a_key_changes_only_from_one_that_is_trusted(log, witness):
    stranger, new = make_key(ORIGIN, SignatureKind.ED25519), make_key(ORIGIN, SignatureKind.ED25519)
    honest, log.key = log.key, stranger
    change_key(log, new, [stranger, new])
    note = cosign(log.sign(key=new), witness)
    lines = make_file(log, witness, end=22, note=note)
    assert "changes a key that is not trusted" in check(lines, log, witness, keys=[honest.public])


def test_more_entries_than_the_log_had_are_found(log, witness):
    lines = make_file(log, witness, first=4, end=21)
    more = AttackedLog(log.key, [*log.entries], dict(log.nodes), log.ticks)
    more.add_tick()
    lines = [*lines, make_file(more, witness, first=21, end=22)[1]]
    lines[0]["count"] += 1
    assert check(lines, log, witness) == "refuted: entries: more than the log had"


@pytest.mark.parametrize(
    "garbage", ["", "[]", "{}", "null", "[" * 100_000, '{"format":1}', "\ud800", "x" * 5_000_000]
)
def test_the_offline_file_runs_alone_and_never_breaks(log, witness, tmp_path, garbage):
    path, script = tmp_path / "spy.audit", tmp_path / "verify.py"
    script.write_bytes(Path(verify.__file__).read_bytes())
    keys = ["--log", str(log.key.public), "--witness", str(witness.public), "--symbol", "SPY"]

    def run() -> tuple[int, str]:
        line = [sys.executable, "-I", str(script), str(path), *keys]
        ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.stderr == ""
        return ended.returncode, ended.stdout

    assert run()[0] == 3
    good = make_file(log, witness)
    path.write_text("".join(to_line(line) + "\n" for line in good))
    assert run()[0] == 0
    path.write_text(f"{to_line(good[0])}\n{garbage}\n", errors="surrogatepass")
    code, said = run()
    assert code == 1
    assert said.startswith("refuted: ")
    path.write_text(f"{garbage}\n", errors="surrogatepass")
    assert run()[0] == 1


def test_the_offline_file_has_two_hundred_lines_and_imports_nothing_of_ours():
    text = Path(verify.__file__).read_text()
    assert len(text.splitlines()) <= 200
    lines = [line.split() for line in text.splitlines() if line.startswith(("import ", "from "))]
    names = {words[1].partition(".")[0] for words in lines}
    assert {"json", "cryptography"} <= names
    assert not {"marketswarm", "services"} & names


def test_base64_of_a_second_form_is_no_second_file(log, witness):
    lines = make_file(log, witness)
    raw = base64.b64decode(lines[0]["hashes"][0])
    lines[0]["hashes"][0] = base64.b64encode(raw).decode().replace("=", "=\n")
    with pytest.raises(ValueError, match=r"base64|character|padding"):
        check(lines, log, witness)


def place_again(log, **changes):
    """Return an attack that puts another place into a tick, and the tick's tree over it."""

    def change(file) -> None:
        text = encode_entry({**json.loads(file[5]["place"]), **changes})
        _, places = log.entries[8]
        texts = [
            text if name == "SPY" else each for name, each in zip(places.symbols, places.texts, strict=True)
        ]
        forged = TickPlaces(places.symbols, tuple(texts))
        proof = prove_place(forged, "SPY")
        entry = rewrite(file[5], "entry", root=hash_tree(forged.hashes).hex())
        path = [base64.b64encode(each).decode() for each in proof.path]
        file[5] = {**entry, "place": text.decode(), "path": path}

    return change


def test_a_place_and_its_tick_rewritten_are_not_the_ones_that_were_signed(log, witness):
    lines = make_file(log, witness)
    place_again(log, score="9.5")(lines)
    assert check(lines, log, witness) == f"refuted: {UNSIGNED}"


def test_a_symbol_that_a_tick_names_twice_or_hides_is_found(log, witness):
    for symbols, named in [
        (["AAPL", "MSFT", "SPY", "SPY", "XLK"], "tick 5: has a symbol twice"),
        (["AAPL", "MSFT", "XLF", "SPY", "XLK"], "tick 5: has a symbol twice"),  # out of order
        (["AAPL", "MSFT", "SPY", "XLK"], "tick 5: had other symbols"),
        (["SPY"], "tick 5: had other symbols"),
    ]:
        lines = make_file(log, witness)
        lines[1]["symbols"] = symbols
        assert check(lines, log, witness) == f"refuted: {named}"
    lines = make_file(log, witness)
    del lines[1]["symbols"]
    assert check(lines, log, witness) == "refuted: tick 5: had other symbols"


def test_a_signal_that_is_shown_again_at_a_later_tick_is_found(log, witness):
    text = log.entries[20][1]
    log.ticks += 1
    log.add_places(text)
    found = check(make_file(log, witness, end=22), log, witness)
    assert found == "refuted: tick 22: its place is of another tick"


def test_a_market_closes_at_the_tick_that_its_place_names(log, witness):
    log.ticks += 1
    closed = join_places({name: make_place(name, PlaceOutcome.CLOSED, since=22) for name in SYMBOLS})
    log.add_places(closed)
    log.ticks += 1
    log.add_places(closed)
    assert check(make_file(log, witness, end=23), log, witness).startswith("proven: 19 entries")
    log.ticks += 1
    log.add_places(join_places({name: make_place(name, PlaceOutcome.CLOSED, since=23) for name in SYMBOLS}))
    found = check(make_file(log, witness, end=24), log, witness)
    assert found == "refuted: tick 24: its place is of another tick"


def test_what_was_rewritten_between_two_checkpoints_is_found(log, witness):
    """Both checkpoints are cosigned: the entry 15 lies above the first one, and below the second one."""
    forged = AttackedLog(log.key)
    for number in range(21):
        forged.add_tick(scores={16: -1} if number == 15 else None)
    real = cosign(log.sign(), witness)
    assert check(make_file(forged, witness, note=real), log, witness) == f"refuted: {UNSIGNED}"


def test_of_two_views_of_one_size_only_the_cosigned_one_is_proven(log, witness):
    other = AttackedLog(log.key)
    for _ in range(21):
        other.add_tick(scores={20: -1})
    assert check(make_file(log, witness), log, witness).startswith("proven: ")
    alone = make_file(other, witness, note=other.sign())
    assert check(alone, other, witness) == "unavailable: the checkpoint is not witnessed yet"
    mixed = make_file(other, witness, note=cosign(log.sign(), witness))
    assert check(mixed, other, witness) == f"refuted: {UNSIGNED}"


def test_a_cosignature_from_the_future_is_not_believed(log, witness):
    """A witness whose clock is ahead would make an old view look fresh for ever."""
    note = cosign(log.sign(), witness, at_sec=BEGIN_MS // 1000 + 86_400)
    found = check(make_file(log, witness, note=note), log, witness)
    assert found == "unavailable: the cosignature is -86000 seconds old"


def test_a_cosignature_of_another_key_of_the_same_name_is_no_cosignature(log, witness):
    stranger = make_key(witness.public.name, SignatureKind.COSIGNATURE)
    lines = make_file(log, stranger)
    assert check(lines, log, witness) == "unavailable: the checkpoint is not witnessed yet"


async def test_of_two_checkpoints_at_once_the_witness_cosigns_what_continues(tmp_path):
    rig = WitnessRig(tmp_path)
    try:
        await rig.step()
        forged = WitnessRig.make_signer(rig)
        rig.log.rewrite()
        rig.log.notes.clear()
        rig.log.add(3)
        await forged.step()
        assert forged.status.reason is WitnessReason.BAD_PROOF
        assert (await rig.step()).problem is SigningProblem.LOG_CHANGED
        assert rig.log.lines.keys() == {(8, rig.witness_key.public.name)}
    finally:
        rig.close()


async def test_a_restored_witness_could_cosign_a_second_history_and_is_named_before(tmp_path):
    rig = WitnessRig(tmp_path)
    try:
        rig.store.close()
        await asyncio.to_thread(shutil.copy, tmp_path / "witness.sqlite", tmp_path / "backup.sqlite")
        rig.wire.witness = rig.open_witness()
        await rig.step()
        rig.store.close()
        rig.wire.witness = rig.open_witness("backup.sqlite")
        status = await rig.step()
        assert status.describe(rig.clock.now) == "the witness went back"
    finally:
        rig.close()


async def test_a_log_that_cosigns_itself_is_neither_stored_nor_proven(tmp_path):
    rig = WitnessRig(tmp_path)
    try:
        public = PublicKey(rig.witness_key.public.name, SignatureKind.COSIGNATURE, rig.key.public.key)
        secret = bytes([SignatureKind.COSIGNATURE]) + base64.b64decode(rig.key.export().split("+", 4)[4])[1:]
        text = f"PRIVATE+KEY+{public.name}+{public.ident.hex()}+{base64.b64encode(secret).decode()}"
        own = parse_private_key(text)
        rig.wire.sign = lambda body: own.sign(body.partition(b"\n\n")[2].partition(b"\n\n")[0] + b"\n", 1)
        status = await rig.step()
        assert (status.reason, rig.log.lines) == (WitnessReason.FALSE_COSIGNATURE, {})
    finally:
        rig.close()


async def test_a_superuser_with_the_stolen_key_can_not_make_the_witness_forget(tmp_path):
    """Rows, nodes and checkpoints are rewritten, and signed with the log's own key: the witness says no."""
    rig = WitnessRig(tmp_path)
    try:
        await rig.step()
        rig.log.rewrite()
        rig.log.notes.clear()
        rig.log.lines.clear()
        rig.signer = rig.make_signer()
        for _ in range(3):
            assert (await rig.step()).reason is WitnessReason.BAD_PROOF
        assert rig.log.lines == {}
        assert rig.store.list_forks()
    finally:
        rig.close()


def test_at_least_thirty_attacks_are_played():
    """Those on a file are counted here; the tests below them play the log, its key and its witness."""
    assert len(CHANGES) >= 30
