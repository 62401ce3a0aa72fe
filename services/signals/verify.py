"""Check what a log of signals says of one symbol, offline: python verify.py FILE --log KEY --witness KEY.

This file imports nothing of the program that wrote the log; it needs Python 3.11 and `cryptography`. It ends
with 0, "proven", with 1, "refuted" and the first place that is wrong, or with 3, "unavailable": it can't read
the file, or there is no cosignature yet, or an old one.
"""

import argparse
import base64
import json
import sys
import time
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT, MAX_LINE, CLOCK_SEC, FOLLOWING = "marketswarm-audit/1", 4_000_000, 300, {"unchanged", "closed"}
NAMES = {"tick": ["entry", "symbols", "place", "index", "path"], "gap": ["entry"], "key": ["entry"]}
PROVEN, REFUTED, UNAVAILABLE, SIGNED, COSIGNED = 0, 1, 3, 1, 4  # exit codes; how a key signs, by its byte
unpack = partial(base64.b64decode, validate=True)
write = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
Key = NamedTuple("Key", [("name", str), ("number", bytes), ("kind", int), ("public", bytes)])  # noqa: UP014 - fewer lines
WORDS = {PROVEN: "proven", REFUTED: "refuted", UNAVAILABLE: "unavailable"}


class NotProven(Exception):  # noqa: N818 - a result
    """Nothing is proven: why, and the exit code."""


def need(is_right: bool, what: str, code: int = REFUTED) -> None:
    if not is_right:
        raise NotProven(what, code)


def parse_key(text: str) -> Key:
    """Return the key of `name+number+base64`."""
    name, number, encoded = text.split("+", 2)
    raw = unpack(encoded)
    found = sha256(f"{name}\n".encode() + raw).digest()[:4]
    need(len(raw) == 33 and number == found.hex(), f"key {name}: its number is not its own")
    return Key(name, found, raw[0], raw[1:])


def find_signature(key: Key, text: bytes, lines: list[str]) -> int | None:
    """Return the second that a key signed at, 0 for a log; None without its line. A false line is refuted."""
    for line in lines:
        dash, name, encoded = line.split(" ")
        number, signed, at = unpack(encoded)[:4], unpack(encoded)[4:], 0
        if (dash, name, number) != ("\N{EM DASH}", key.name, key.number):
            continue
        if key.kind == COSIGNED:
            at, signed = int.from_bytes(signed[:8]), signed[8:]
            text = f"cosignature/v1\ntime {at}\n".encode() + text
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signed, text)
        except InvalidSignature:
            raise NotProven(f"checkpoint: the signature of {key.name} is false", REFUTED) from None
        return at
    return None


def hash_run(start: int, stop: int, first: int, run: list[bytes], beside: Any) -> bytes:
    """Return the root of a subtree: of the entries at hand from `first` on, and of the hashes beside them."""
    if stop <= first or start >= first + len(run):
        return bytes(next(beside, b""))
    if stop - start == 1:
        return run[start - first]
    middle = start + (1 << ((stop - start - 1).bit_length() - 1))
    left, right = hash_run(start, middle, first, run, beside), hash_run(middle, stop, first, run, beside)
    return sha256(b"\x01" + left + right).digest()


def climb(text: str, index: int, size: int, path: list[str]) -> bytes:
    """Return the root above a place: on each level it is hashed with its neighbour, if it has one."""
    found, beside = sha256(b"\x00" + text.encode()).digest(), iter(path)
    while size > 1:
        if index ^ 1 < size:
            other = unpack(next(beside, ""))
            found = sha256(b"\x01" + (other + found if index % 2 else found + other)).digest()
        index, size = index // 2, (size + 1) // 2
    need(next(beside, None) is None, "a path is longer than its tree is high")
    return found


def parse(text: str, where: str, *, is_sorted: bool = True) -> Any:
    """Return JSON that is in its one form: no space, no key twice, no float; its keys in order, if hashed."""
    found = json.loads(text, parse_float=str, parse_constant=str)
    need(write(found, sort_keys=is_sorted) == text, f"{where}: not in its one form")
    return found


class Checker:
    """Check the lines of a file in their order; `keys` are of the log, `witness` is of another person."""

    def __init__(self, keys: list[Key], witness: Key, symbol: str | None) -> None:
        self.keys, self.witness, self.symbol, self.origin = keys, witness, symbol, ""
        self.tick, self.stored, self.at, self.where, self.digest, self.names = 0, 0, "", "line 1", "", [""]

    def check_entry(self, number: int, text: str) -> bytes:
        self.where = f"entry {number}"
        line = parse(text.removesuffix("\n"), self.where, is_sorted=False)
        entry = parse(line["entry"], self.where)
        need(line.keys() <= set(NAMES[entry["kind"]]), f"{self.where}: it has what nobody checks")
        need((entry["v"], entry["n"]) == (1, number), f"{self.where}: it is another one's")
        need(entry["at"] >= self.at, f"{self.where}: its time is before the one before")
        self.at = entry["at"]
        if entry["kind"] == "key":
            self.check_key(entry)
        else:
            tick = entry["tick"] if entry["kind"] == "tick" else entry["first"]
            need(self.tick in {0, tick - 1}, f"{self.where}: tick {self.tick + 1} is missing")
            self.tick = tick if entry["kind"] == "tick" else entry["last"]
            need(self.tick >= tick > 0, f"{self.where}: its ticks go back")
            if entry["kind"] == "tick":
                self.check_place(entry, line)
        return sha256(b"\x00" + line["entry"].encode()).digest()

    def check_key(self, this: Any) -> None:
        text = f"marketswarm key change\n{self.origin}\n{this['n']}\n{this['old']}\n{this['new']}\n".encode()
        keys = [parse_key(this["old"]), parse_key(this["new"])]
        need(keys[0] in self.keys, f"{self.where}: changes a key that is not trusted")
        signed = [find_signature(key, text, this["signatures"]) is not None for key in keys]
        need(all(signed), f"{self.where}: the {'new' if signed[0] else 'old'} key did not sign")
        self.keys = [keys[1] if each == keys[0] else each for each in self.keys]

    def check_place(self, entry: Any, line: Any) -> None:
        where, index, count = f"tick {self.tick}", line.get("index"), entry["places"]
        if "symbols" in line:
            self.names = line["symbols"]
            self.digest = sha256(b"\x00" + write({"symbols": self.names}).encode()).hexdigest()
            need(self.names == sorted(set(self.names)), f"{where}: has a symbol twice")
        need((entry["symbols"], count) == (self.digest, len(self.names)), f"{where}: had other symbols")
        need("place" in line, f"{where}: no place of {self.symbol}")
        place = parse(line["place"], where)
        need(place["symbol"] == self.symbol, f"{where}: the place of {place['symbol']}, not {self.symbol}")
        need(index >= 0 and [self.symbol] == self.names[index:][:1], f"{where}: {index} is not its index")
        root = climb(line["place"], index, count, line["path"])
        need(root.hex() == entry["root"], f"{where}: the place is not the one that was logged")
        tick = place["since" if place["outcome"] in FOLLOWING else "tick"]
        begins = tick == self.tick and place["outcome"] != "unchanged"  # a market closes at the tick it names
        follows = place["outcome"] in FOLLOWING and self.stored in {0, tick}
        need(begins or follows, f"{where}: its place is of another tick")
        self.stored = tick


def verify(lines: Any, checker: Checker, now: float, max_age: float) -> str:
    head = parse(next(lines).removesuffix("\n"), "line 1", is_sorted=False)
    checker.origin, size, root = head["checkpoint"].split("\n")[:3]
    checker.symbol, first, witness = checker.symbol or head["symbol"], head["first"], checker.witness
    body, _, lines_below = head["checkpoint"].rpartition("\n\n")
    text, signatures = f"{body}\n".encode(), lines_below.rstrip("\n").split("\n")
    need((head["format"], len(head)) == (FORMAT, 6), "line 1: not of this format")
    need(head["symbol"] == checker.symbol, f"line 1: about {head['symbol']}, not {checker.symbol}")
    need(all(key.public != witness.public for key in checker.keys), "witness: the log cosigned itself")
    need(witness.kind == COSIGNED, "witness: not the key of a witness")
    at = find_signature(witness, text, signatures) or 0
    need(at > 0, "the checkpoint is not witnessed yet", UNAVAILABLE)
    entries = [checker.check_entry(first + number, line) for number, line in enumerate(lines)]
    checker.where, latest = "checkpoint", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at + CLOCK_SEC))
    keys = [key for key in checker.keys if (key.name, key.kind) == (checker.origin, SIGNED)]  # as changed
    signed = [find_signature(key, text, signatures) is not None for key in keys]
    need(any(signed), f"checkpoint: no key of {checker.origin} signed it")
    need(len(entries) == head["count"] > 0, f"entry {first + len(entries)}: missing")
    need(0 <= first <= int(size) - len(entries), "entries: more than the log had")
    found = hash_run(0, int(size), first, entries, beside := iter([unpack(each) for each in head["hashes"]]))
    need(found == unpack(root) and not list(beside), "entries: not the ones that were signed")
    need(latest >= checker.at[:19], "cosigned before its last entry: a clock was wrong", UNAVAILABLE)
    need(checker.stored > 0, f"no entry here has a place of {checker.symbol}", UNAVAILABLE)
    need(-CLOCK_SEC <= now - at <= max_age, f"the cosignature is {now - at:.0f} seconds old", UNAVAILABLE)
    return f"{len(entries)} entries of {checker.symbol} in {checker.origin}, cosigned {now - at:.0f} s ago"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--log", action="append", required=True, help="a public key of the log")
    parser.add_argument("--witness", required=True, help="the public key of the witness")
    parser.add_argument("--symbol", help="what the file must be about")
    parser.add_argument("--max-age", type=float, default=1e18, help="seconds since the cosignature, at most")
    args, checker = parser.parse_args(words), None
    try:
        checker = Checker([parse_key(key) for key in args.log], parse_key(args.witness), args.symbol)
        with open(args.file, encoding="utf-8") as file:  # noqa: PTH123 - one import less
            lines = iter(lambda: file.readline(MAX_LINE), "")
            code, text = PROVEN, verify(lines, checker, time.time(), args.max_age)
    except NotProven as found:
        text, code = found.args
    except OSError as error:
        code, text = UNAVAILABLE, str(error)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        code, text = REFUTED, f"{getattr(checker, 'where', 'key')}: not of its form ({type(error).__name__})"
    sys.stdout.write(f"{WORDS[code]}: {text.encode('unicode_escape').decode()}\n")  # it steers no terminal
    return code


if __name__ == "__main__":
    sys.exit(main())
