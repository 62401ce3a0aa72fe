"""A witness cosigns what continues, names what does not, and keeps both heads of a fork."""

import base64

import pytest

from services.signals.log.checkpoint import Checkpoint
from services.signals.log.merkle import append_entry, hash_entry, hash_span, list_consistency
from services.signals.log.note import (
    NoteError,
    SignatureKind,
    make_key,
    parse_note,
    verify_note,
)
from services.signals.log.submission import MAX_REQUEST_BYTES, SIZE_TYPE, Status
from services.signals.witness.store import MAX_FORKS, WitnessStore
from services.signals.witness.witness import Witness

ORIGIN = "log.example/signals"
NOW = 1_790_000_000


class Log:
    """A log that a test lets tell the truth, or not."""

    def __init__(self, key, count, changed=()):
        self.key, self.nodes = key, {}
        for number in range(count):
            entry = hash_entry(b"changed" if number in changed else b"%d" % number)
            self.nodes.update(append_entry(number, self.nodes, entry))

    def sign(self, size, origin=ORIGIN):
        text = Checkpoint(origin, size, hash_span((0, size), self.nodes)).format()
        return text + b"\n" + self.key.sign(text).encode()

    def ask(self, old, size, origin=ORIGIN):
        spans = list_consistency(old, size) if old <= size else []
        proof = [base64.b64encode(hash_span(span, self.nodes)).decode() for span in spans]
        return "\n".join([f"old {old}", *proof, "", ""]).encode() + self.sign(size, origin)


@pytest.fixture
def log_key():
    return make_key(ORIGIN, SignatureKind.ED25519)


@pytest.fixture
def log(log_key):
    return Log(log_key, 40)


@pytest.fixture
def store(tmp_path):
    opened = WitnessStore(tmp_path / "witness.sqlite", lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def witness_key():
    return make_key("witness.example/one", SignatureKind.COSIGNATURE)


@pytest.fixture
def witness(witness_key, log_key, store):
    return Witness(witness_key, {ORIGIN: (log_key.public,)}, store, lambda: NOW)


def test_a_log_that_grows_is_cosigned_with_a_time(witness, witness_key, log):
    for old, size in [(0, 3), (3, 3), (3, 17), (17, 40)]:
        answer = witness.add_checkpoint(log.ask(old, size))
        assert answer.status is Status.COSIGNED
        note = parse_note(log.sign(size) + answer.body.encode())
        assert verify_note(note, witness_key.public) == NOW
        assert verify_note(note, log.key.public) == 0


def test_an_empty_log_is_cosigned_too_and_no_other_root_of_nothing(witness, log):
    assert witness.add_checkpoint(log.ask(0, 0)).status is Status.COSIGNED
    text = Checkpoint(ORIGIN, 0, bytes(32)).format()
    false = b"old 0\n\n" + text + b"\n" + log.key.sign(text).encode()
    assert witness.add_checkpoint(false).status is Status.BAD_PROOF


def test_another_size_than_ours_is_told_ours(witness, log):
    witness.add_checkpoint(log.ask(0, 17))
    for old, size in [(0, 17), (3, 20), (18, 20), (0, 3)]:
        answer = witness.add_checkpoint(log.ask(old, size))
        assert (answer.status, answer.body, answer.media_type) == (Status.OTHER_SIZE, "17\n", SIZE_TYPE)


def test_a_log_nobody_named_and_a_key_that_is_not_its_own_are_refused(witness, log):
    assert witness.add_checkpoint(log.ask(0, 3, "log.example/other")).status is Status.UNKNOWN_ORIGIN
    thief = Log(make_key(ORIGIN, SignatureKind.ED25519), 3)
    assert witness.add_checkpoint(thief.ask(0, 3)).status is Status.BAD_SIGNATURE
    forged = log.ask(0, 3).replace(b"\n3\n", b"\n4\n")
    assert witness.add_checkpoint(forged).status is Status.BAD_SIGNATURE


def test_a_rewritten_log_is_refused_whether_it_grew_or_not_and_both_heads_are_kept(
    witness, store, log, log_key
):
    witness.add_checkpoint(log.ask(0, 17))
    forked = Log(log_key, 40, changed={5})
    assert witness.add_checkpoint(forked.ask(17, 17)).status is Status.BAD_PROOF
    assert witness.add_checkpoint(forked.ask(17, 40)).status is Status.BAD_PROOF
    assert witness.add_checkpoint(forked.ask(17, 17)).status is Status.BAD_PROOF
    kept = store.list_forks()
    assert [(each.is_proven, each.ours, each.theirs, each.at) for each in kept] == [
        (1, log.sign(17), forked.sign(17), NOW),
        (0, log.sign(17), forked.sign(40), NOW),
    ]
    assert witness.add_checkpoint(log.ask(17, 40)).status is Status.COSIGNED


def test_evidence_is_bounded_and_what_proves_nothing_can_not_push_out_what_does(store):
    store.keep_fork(ORIGIN, b"ours", b"theirs", is_proven=True)
    with store.change():
        for number in range(MAX_FORKS + 5):
            store.keep_fork(ORIGIN, b"ours", b"%d" % number, is_proven=False)
            store.keep_fork(ORIGIN, b"ours", b"%d" % number, is_proven=True)
    kept = store.list_forks()
    proven = [each.theirs for each in kept if each.is_proven]
    assert len(proven) == MAX_FORKS
    assert proven[0] == b"theirs"
    unproven = [each.theirs for each in kept if not each.is_proven]
    assert (len(unproven), unproven[0]) == (MAX_FORKS, b"5")


@pytest.mark.parametrize(
    "change",
    [
        lambda _ask: b"",
        lambda ask: ask.replace(b"old 3", b"old 03"),
        lambda ask: ask.replace(b"old 3", b"old -3"),
        lambda ask: ask.replace(b"old 3", b"new 3"),
        lambda ask: ask.replace(b"old 3", b"old 18"),
        lambda ask: ask.replace(b"old 3", b"old 0"),  # a proof from nothing
        lambda ask: ask.replace(b"old 3\n", b"old 3\nAAAA\n"),
        lambda ask: ask.replace(b"old 3\n", b"old 3\n" + (b"A" * 43 + b"=\n") * 64),
        lambda ask: ask.replace(b"old 3\n", b"old 3\n\xff\n"),
        lambda ask: ask.partition(b"\n\n")[0],
        lambda ask: ask + b"x" * MAX_REQUEST_BYTES,
    ],
)
def test_a_request_that_is_not_of_its_form_is_refused(witness, log, change):
    assert witness.add_checkpoint(change(log.ask(3, 17))).status is Status.BAD_FORM


def test_what_was_cosigned_is_known_after_a_restart(witness_key, log_key, log, tmp_path):
    path = tmp_path / "kept.sqlite"
    for old, size in [(0, 3), (3, 17)]:
        store = WitnessStore(path)
        witness = Witness(witness_key, {ORIGIN: (log_key.public,)}, store)
        assert witness.add_checkpoint(log.ask(old, size)).status is Status.COSIGNED
        store.close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_checkpoint_that_can_not_be_stored_is_not_cosigned(witness, store, log, monkeypatch):
    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr(store, "save_head", fail)
    with pytest.raises(OSError, match="disk"):
        witness.add_checkpoint(log.ask(0, 3))
    assert store.find_head(ORIGIN) is None


def test_two_processes_with_one_file_can_not_both_advance_from_the_same_head(
    witness_key, log_key, log, tmp_path
):
    path = tmp_path / "shared.sqlite"
    first, second = WitnessStore(path), WitnessStore(path)
    logs = {ORIGIN: (log_key.public,)}
    assert Witness(witness_key, logs, first).add_checkpoint(log.ask(0, 20)).status is Status.COSIGNED
    assert Witness(witness_key, logs, second).add_checkpoint(log.ask(0, 3)).body == "20\n"
    first.close()
    second.close()


def test_the_key_of_a_log_is_no_witness(log_key, witness_key, store):
    with pytest.raises(NoteError, match="not of a witness"):
        Witness(log_key, {ORIGIN: (log_key.public,)}, store)
    same = type(witness_key.public)(ORIGIN, SignatureKind.ED25519, witness_key.public.key)
    with pytest.raises(NoteError, match="that it is to watch"):
        Witness(witness_key, {ORIGIN: (same,)}, store)
