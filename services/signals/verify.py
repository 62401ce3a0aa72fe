"""Check what a log of signals says of one symbol, offline: python verify.py FILE --log KEY --witness KEY.

This file imports nothing of the program that wrote the log; it needs Python 3.11 and `cryptography`. It ends
with 0 and "proven", with 1, "refuted" and the first place that is wrong, or with 3 and "unavailable" if the
file can't be read, has no cosignature yet, or one that is too old.
"""

import argparse
import base64
import json
import sys
import time
from collections import namedtuple
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT, MAX_LINE, CLOCK_SEC = "marketswarm-audit/1", 4_000_000, 300
PROVEN, REFUTED, UNAVAILABLE = 0, 1, 3  # exit codes
SIGNED, COSIGNED = 1, 4  # the byte of a key that says how it signs
unpack = partial(base64.b64decode, validate=True)
Key = namedtuple("Key", "name number kind public")  # noqa: PYI024 - fewer lines
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


def hash_pair(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def hash_run(start: int, stop: int, first: int, entries: list[bytes], beside: Any) -> bytes:
    """Return the root of a subtree: of the entries at hand from `first` on, and of the hashes beside them."""
    if stop <= first or start >= first + len(entries):
        return bytes(next(beside, b""))
    if stop - start == 1:
        return entries[start - first]
    middle = start + (1 << ((stop - start - 1).bit_length() - 1))
    halves = (start, middle), (middle, stop)
    return hash_pair(*(hash_run(*half, first, entries, beside) for half in halves))


def climb(text: str, index: int, size: int, path: list[str]) -> bytes:
    """Return the root above a place (RFC 9162, 2.1.3.2)."""
    found, last = sha256(b"\x00" + text.encode()).digest(), size - 1
    for each in path:
        need(last > 0, "a path is longer than its tree is high")
        is_right = index % 2 == 1 or index == last
        found = hash_pair(unpack(each), found) if is_right else hash_pair(found, unpack(each))
        while is_right and index % 2 == 0 and index:
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    need(last == 0, "a path is shorter than its tree is high")
    return found


def parse(text: str, where: str) -> Any:
    """Return JSON that is in its one form: keys in order, no spaces."""
    again = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    need(again == text, f"{where}: not in its one form")
    return json.loads(text)


class Checker:
    """Check the lines of a file in their order; `keys` are of the log, `witness` is of another person."""

    def __init__(self, keys: list[Key], witness: Key, symbol: str | None) -> None:
        self.keys, self.witness, self.symbol, self.origin = keys, witness, symbol, ""
        self.tick, self.evaluated, self.at, self.where = 0, 0, "", "line 1"

    def check_entry(self, number: int, line: Any) -> bytes:
        self.where = f"entry {number}"
        entry = parse(line["entry"], self.where)
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

    def check_key(self, entry: Any) -> None:
        names = f"{self.origin}\n{entry['n']}\n{entry['old']}\n{entry['new']}\n"
        keys = [parse_key(entry["old"]), parse_key(entry["new"])]
        need(keys[0] in self.keys, f"{self.where}: changes a key that is not trusted")
        for key in keys:
            at = find_signature(key, f"marketswarm key change\n{names}".encode(), entry["signatures"])
            need(at is not None, f"{self.where}: {key.name} did not sign")
        self.keys.append(keys[1])

    def check_place(self, entry: Any, line: Any) -> None:
        where, index, count = f"tick {self.tick}", line.get("index"), entry["places"]
        need("place" in line, f"{where}: no place of {self.symbol}")
        place = parse(line["place"], where)
        need(place["symbol"] == self.symbol, f"{where}: the place of {place['symbol']}, not {self.symbol}")
        need(0 <= index < count, f"{where}: there is no place {index}")
        root = climb(line["place"], index, count, line["path"])
        need(root.hex() == entry["root"], f"{where}: the place is not the one that was logged")
        if place["outcome"] in {"unchanged", "closed"}:
            need(self.evaluated in {0, place["since"]}, f"{where}: follows from another tick")
        else:
            self.evaluated = self.tick


def verify(lines: Any, checker: Checker, now: float, max_age: float) -> str:
    head = json.loads(next(lines))
    checker.origin, size, root = head["checkpoint"].split("\n")[:3]
    checker.symbol, first, witness = checker.symbol or head["symbol"], head["first"], checker.witness
    body, _, lines_below = head["checkpoint"].rpartition("\n\n")
    text, signatures = f"{body}\n".encode(), lines_below.rstrip("\n").split("\n")
    need(head["format"] == FORMAT, "line 1: not of this format")
    need(all(key.public != witness.public for key in checker.keys), "witness: the log cosigned itself")
    need(witness.kind == COSIGNED, "witness: not the key of a witness")
    at = find_signature(witness, text, signatures) or 0
    need(at > 0, "the checkpoint is not witnessed yet", UNAVAILABLE)
    entries = [checker.check_entry(first + number, json.loads(line)) for number, line in enumerate(lines)]
    checker.where = "checkpoint"  # after the entries: among them a key may have changed
    keys = [key for key in checker.keys if (key.name, key.kind) == (checker.origin, SIGNED)]
    signed = [find_signature(key, text, signatures) is not None for key in keys]
    need(any(signed), f"checkpoint: no key of {checker.origin} signed it")
    need(len(entries) == head["count"] > 0, f"entry {first + len(entries)}: missing")
    need(0 <= first <= int(size) - len(entries), "entries: more than the log had")
    beside = iter([unpack(each) for each in head["hashes"]])
    found = hash_run(0, int(size), first, entries, beside)
    need(found == unpack(root) and not list(beside), "entries: not the ones that were signed")
    need(at + CLOCK_SEC >= datetime.fromisoformat(checker.at).timestamp(), "cosigned before its last entry")
    need(now - at <= max_age, f"the cosignature is {now - at:.0f} seconds old", UNAVAILABLE)
    return f"{len(entries)} entries of {checker.symbol} in {checker.origin}, cosigned {now - at:.0f} s ago"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--log", action="append", required=True, help="a public key of the log")
    parser.add_argument("--witness", required=True, help="the public key of the witness")
    parser.add_argument("--symbol", help="what the file must be about")
    parser.add_argument("--max-age", type=float, default=1e18, help="seconds since the cosignature, at most")
    args, checker = parser.parse_args(), None
    try:
        checker = Checker([parse_key(key) for key in args.log], parse_key(args.witness), args.symbol)
        with args.file.open(encoding="utf-8") as file:
            lines = iter(lambda: file.readline(MAX_LINE), "")
            code, text = PROVEN, verify(lines, checker, time.time(), args.max_age)
    except NotProven as found:
        text, code = found.args
    except OSError as error:
        code, text = UNAVAILABLE, str(error)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        code, text = REFUTED, f"{getattr(checker, 'where', 'key')}: not of its form ({type(error).__name__})"
    sys.stdout.write(f"{WORDS[code]}: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
