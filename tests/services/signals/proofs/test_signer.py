"""Checkpoints are signed over what is committed, and cosigned; what does not fit is named, and not signed."""

import base64
import shutil

import pytest

from marketswarm.net.http import HttpResponse
from services.signals.key_file import KeyFileError
from services.signals.log.checkpoint import parse_checkpoint
from services.signals.log.note import (
    PublicKey,
    SignatureKind,
    make_key,
    parse_note,
    parse_private_key,
    verify_note,
)
from services.signals.log.submission import Status
from services.signals.proofs.signer import (
    SignerSettings,
    SigningProblem,
    WitnessTarget,
    WitnessWarning,
)
from services.signals.proofs.witness_client import REFUSALS, WitnessReason, judge_answer
from support.witness_rig import NOW, ORIGIN, MemoryLog, WitnessRig


@pytest.fixture
def rig(tmp_path):
    made = WitnessRig(tmp_path)
    yield made
    made.close()


async def test_what_is_committed_is_signed_and_cosigned_each_minute(rig):
    for size in (8, 11, 14):
        status = await rig.step()
        assert (status.problem, status.reason, status.words) == (None, WitnessReason.COSIGNED, "")
        assert (status.size, status.cosigned_size, status.cosigned_at) == (size, size, rig.clock.now)
        note = parse_note(rig.log.notes[size] + rig.log.lines[size, "witness.example/one"][1].encode())
        assert parse_checkpoint(note.text).size == size
        assert verify_note(note, rig.key.public) == 0
        assert verify_note(note, rig.witness_key.public) == int(rig.clock.now)
        assert status.describe(rig.clock.now) is None
    assert [body.partition(b"\n")[0] for body in rig.wire.bodies] == [b"old 0", b"old 8", b"old 11"]
    assert rig.reports[-1] == status


async def test_a_checkpoint_is_not_signed_before_its_minute_and_not_twice_over_one_size(rig):
    await rig.step()
    await rig.step(sec=10)
    assert list(rig.log.notes) == [8]
    assert (await rig.step(more=0)).whole_at == rig.clock.now
    assert list(rig.log.notes) == [8, 11]
    status = await rig.step(more=0)
    assert (list(rig.log.notes), status.reason) == ([8, 11], WitnessReason.COSIGNED)
    assert len(rig.wire.bodies) == 2


async def test_an_empty_log_is_not_signed(rig):
    rig.log = MemoryLog()
    rig.signer = rig.make_signer()
    assert await rig.signer.step()
    assert rig.log.notes == {}


async def test_a_new_leader_goes_on_from_what_is_stored(rig):
    await rig.step()
    rig.signer = rig.make_signer()
    status = await rig.step()
    assert (status.reason, rig.wire.bodies[-1].partition(b"\n")[0]) == (WitnessReason.COSIGNED, b"old 8")


async def test_a_witness_that_is_away_is_asked_again_and_the_age_grows(rig):
    await rig.step()
    rig.wire.is_away = True
    assert not await rig.signer.step() or True
    status = await rig.step()
    assert (status.reason, status.words, status.cosigned_size) == (WitnessReason.AWAY, "refused", 8)
    assert status.describe(rig.clock.now) == "not cosigned: away (refused)"
    assert status.whole_at == rig.clock.now - 60
    status = await rig.step(sec=300)
    assert rig.clock.now - status.cosigned_at == 360
    assert list(rig.log.notes) == [8, 11, 14]  # it is signed all the same
    rig.wire.is_away = False
    status = await rig.step(more=0, sec=2)
    assert (status.cosigned_size, status.cosigned_at) == (14, rig.clock.now)


async def test_a_witness_that_knows_another_size_is_asked_from_there(rig):
    await rig.step()
    rig.log.lines.clear()  # the cosignature was not stored before the leader died
    rig.signer = rig.make_signer()
    status = await rig.step()
    assert (status.reason, status.warning, status.cosigned_size) == (WitnessReason.COSIGNED, None, 11)
    assert [body.partition(b"\n")[0] for body in rig.wire.bodies[-2:]] == [b"old 0", b"old 8"]


async def test_a_witness_that_was_restored_from_a_backup_is_named(rig):
    await rig.step()
    rig.store.close()
    shutil.copy(rig.path / "witness.sqlite", rig.path / "backup.sqlite")
    rig.wire.witness = rig.open_witness()
    await rig.step()
    rig.store.close()
    rig.wire.witness = rig.open_witness("backup.sqlite")
    status = await rig.step()
    assert (status.reason, status.warning) == (WitnessReason.COSIGNED, WitnessWarning.WENT_BACK)
    assert status.describe(rig.clock.now) == "the witness went back"
    status = await rig.step(sec=3601)
    assert (status.reason, status.describe(rig.clock.now)) == (WitnessReason.COSIGNED, None)


async def test_a_witness_whose_file_is_lost_is_named_too(rig):
    await rig.step()
    rig.store.close()
    rig.wire.witness = rig.open_witness("new.sqlite")
    assert (await rig.step()).warning is WitnessWarning.WENT_BACK


@pytest.mark.parametrize(
    ("sec", "warning", "words"),
    [
        (-3600, WitnessWarning.CLOCK_BACK, "the clock of the witness went back"),
        (3600, WitnessWarning.CLOCK_AHEAD, "the clock of the witness is ahead of ours"),
    ],
)
async def test_a_clock_of_the_witness_that_goes_wrong_is_named(rig, sec, warning, words):
    await rig.step()
    rig.witness_is_fast_sec = sec
    status = await rig.step()
    assert (status.reason, status.warning, status.describe(rig.clock.now)) == (
        WitnessReason.COSIGNED,
        warning,
        words,
    )


async def test_a_log_that_the_witness_does_not_know_and_a_key_that_it_does_not_know_are_refused(rig):
    rig.wire.witness = rig.open_witness("other.sqlite", {})
    status = await rig.step()
    assert (status.reason, status.words) == (
        WitnessReason.UNKNOWN_LOG,
        "HTTP 404: this log is not watched here",
    )
    assert status.reason in REFUSALS
    stranger = make_key(ORIGIN, SignatureKind.ED25519)
    rig.wire.witness = rig.open_witness("third.sqlite", {ORIGIN: (stranger.public,)})
    assert (await rig.step()).reason is WitnessReason.BAD_SIGNATURE


async def test_rows_that_a_superuser_rewrote_are_not_signed_by_the_leader_that_saw_them(rig):
    await rig.step()
    rig.log.rewrite()
    status = await rig.step()
    assert (status.problem, status.words) == (
        SigningProblem.LOG_CHANGED,
        "its first 8 entries have another root",
    )
    assert list(rig.log.notes) == [8]
    rig.log.size = 5
    assert (await rig.step(more=0)).words == "it has 5 entries, and had 8"


async def test_a_superuser_who_rewrites_all_of_it_with_the_stolen_key_is_refused_by_the_witness(rig):
    await rig.step()
    rig.log.rewrite()
    rig.log.notes.clear()  # and the checkpoints with the rows and the nodes
    rig.signer = rig.make_signer()  # after a restart nobody here knows the first history
    status = await rig.step()
    assert (status.problem, status.reason) == (None, WitnessReason.BAD_PROOF)
    assert status.reason in REFUSALS
    assert [each.is_proven for each in rig.store.list_forks()] == [0]  # the witness has both heads
    rig.log.size = 0
    rig.log.add(8, b"changed")
    rig.log.notes.clear()
    rig.signer = rig.make_signer()
    await rig.step(more=0)
    assert [each.is_proven for each in rig.store.list_forks()] == [0, 1]  # two roots of one size, both signed


async def test_a_log_that_was_restored_from_a_backup_is_behind_its_witness(rig):
    await rig.step(more=10)
    rig.log.size = 9
    rig.log.notes.clear()
    rig.log.lines.clear()
    rig.signer = rig.make_signer()
    status = await rig.step(more=0)
    assert (status.reason, status.words) == (
        WitnessReason.WITNESS_AHEAD,
        "it knows 15 entries, the log has 9",
    )
    assert status.reason in REFUSALS


async def test_of_two_leaders_at_once_both_end_cosigned_and_the_witness_forks_nothing(rig):
    other = rig.make_signer()
    await rig.step()

    async def interfere():
        """Let the other one be first once, between our request and the witness's answer."""
        rig.wire.before = None
        rig.log.add(4)
        await other.step()

    rig.wire.before = interfere
    status = await rig.step()
    assert status.reason is WitnessReason.OTHER_SIZE
    assert status.reason not in REFUSALS
    for signer in (rig.signer, other):
        rig.clock.now += 60
        await signer.step()
    assert rig.signer.status.reason is WitnessReason.COSIGNED
    assert other.status.reason is WitnessReason.COSIGNED
    assert rig.store.list_forks() == []


async def test_without_a_key_and_with_a_wrong_one_nothing_is_signed_and_the_beat_says_so(rig):
    def fail():
        raise KeyFileError("log.key: No such file or directory")

    stranger = make_key("log.example/other", SignatureKind.ED25519)
    for read, problem in [
        (lambda: None, SigningProblem.NO_KEY),
        (fail, SigningProblem.KEY_UNUSABLE),
        (lambda: stranger, SigningProblem.OTHER_LOG),
    ]:
        rig.read_key = read
        status = await rig.step()
        assert status.problem is problem
        assert f"checkpoints are not signed: {problem}" in status.describe(rig.clock.now)
    assert rig.log.notes == {}
    rig.read_key = lambda: rig.key
    assert (await rig.step()).describe(rig.clock.now) is None


@pytest.mark.parametrize("name", ["read_size", "read_newest_key"])
async def test_a_key_signs_no_entry_that_ends_its_time_whenever_it_comes(rig, name):
    new, read = make_key(ORIGIN, SignatureKind.ED25519), getattr(rig.log, name)
    size = await rig.log.read_size()

    async def change_after():
        found = await read()
        rig.log.add()
        rig.log.newest_key = str(new.public)
        return found

    setattr(rig.log, name, change_after)
    await rig.step(more=0)
    assert max(rig.log.notes, default=0) <= size, "the change is the entry after them"


async def test_after_a_key_change_the_old_key_signs_nothing_and_the_new_one_does(rig):
    await rig.step()
    new = make_key(ORIGIN, SignatureKind.ED25519)
    rig.log.add()
    rig.log.newest_key = str(new.public)
    status = await rig.step()
    assert (status.problem, list(rig.log.notes)) == (SigningProblem.KEY_CHANGED, [8])
    rig.read_key = lambda: new
    rig.wire.witness = rig.open_witness(logs={ORIGIN: (rig.key.public, new.public)})
    status = await rig.step()
    assert (status.problem, status.reason) == (None, WitnessReason.COSIGNED)


async def test_one_database_is_one_log(rig):
    await rig.step()
    other = make_key("log.example/other", SignatureKind.ED25519)
    rig.settings = SignerSettings("log.example/other", 60.0, None)
    rig.read_key = lambda: other
    rig.signer = rig.make_signer()
    assert (await rig.step()).problem is SigningProblem.OTHER_LOG


async def test_a_database_that_is_away_is_tried_again(rig):
    rig.log.is_away = True
    assert not await rig.signer.step()
    assert rig.signer.status.problem is SigningProblem.DATABASE_AWAY
    rig.log.is_away = False
    assert await rig.signer.step()


async def test_without_a_witness_it_is_signed_and_no_alert_is_raised(rig):
    rig.settings = SignerSettings(ORIGIN, 60.0, None)
    status = await rig.step()
    assert (status.problem, status.reason, status.describe(rig.clock.now + 9999)) == (None, None, None)
    assert list(rig.log.notes) == [8]


def sign_as_log(rig, note):
    """Return a cosignature that the log's own key made, in the name of the witness."""
    public = PublicKey(rig.witness_key.public.name, SignatureKind.COSIGNATURE, rig.key.public.key)
    secret = bytes([SignatureKind.COSIGNATURE]) + base64.b64decode(rig.key.export().split("+", 4)[4])[1:]
    text = f"PRIVATE+KEY+{public.name}+{public.ident.hex()}+{base64.b64encode(secret).decode()}"
    return parse_private_key(text).sign(note.partition(b"\n\n")[0] + b"\n", int(NOW))


async def test_what_comes_as_a_cosignature_counts_only_by_the_key_of_the_witness(rig):
    await rig.step()
    note, text = rig.log.notes[8], rig.log.notes[8].partition(b"\n\n")[0] + b"\n"
    good = rig.witness_key.sign(text, int(NOW))
    assert judge_answer(200, good.encode(), note, rig.witness_key.public).line == good
    thief = make_key(rig.witness_key.public.name, SignatureKind.COSIGNATURE)
    for body in (
        b"",
        b"ok\n",
        b"\xff\xff",
        thief.sign(text, int(NOW)).encode(),
        sign_as_log(rig, note).encode(),
        rig.witness_key.sign(text + b"more\n", int(NOW)).encode(),
        good.encode()[:-5],
        b"\n\n" + good.encode(),
    ):
        found = judge_answer(200, body, note, rig.witness_key.public)
        assert found.reason is WitnessReason.FALSE_COSIGNATURE, body
        assert found.line == ""
    more = thief.sign(text, int(NOW)) + good
    assert judge_answer(200, more.encode(), note, rig.witness_key.public).line == good


async def test_a_false_cosignature_is_not_stored_and_is_an_alert(rig):
    rig.wire.answer = HttpResponse(200, b"\xe2\x80\x94 witness.example/one AAAA\n")
    status = await rig.step()
    assert (status.reason, rig.log.lines) == (WitnessReason.FALSE_COSIGNATURE, {})
    assert status.reason in REFUSALS


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (409, b"17\n", WitnessReason.OTHER_SIZE),
        (409, b"many\n", WitnessReason.BAD_FORM),
        (409, b"9" * 40, WitnessReason.BAD_FORM),
        (409, b"\xff", WitnessReason.BAD_FORM),
        (400, b"", WitnessReason.BAD_FORM),
        (Status.BAD_PROOF, b"\x1b[31mno", WitnessReason.BAD_PROOF),
        (503, b"later", WitnessReason.AWAY),
        (302, b"", WitnessReason.AWAY),
    ],
)
async def test_each_answer_of_a_witness_has_its_reason_and_words_that_can_be_printed(
    rig, status, body, reason
):
    await rig.step()
    found = judge_answer(status, body, rig.log.notes[8], rig.witness_key.public)
    assert found.reason is reason
    assert found.words.isprintable()


@pytest.mark.parametrize(
    "key",
    ["nothing", str(make_key("log.example/other", SignatureKind.ED25519).public)],
    ids=["nothing", "the key of a log"],
)
async def test_a_key_of_the_witness_that_is_none_is_named(rig, key):
    rig.settings = SignerSettings(ORIGIN, 60.0, WitnessTarget("http://witness.example/", key))
    status = await rig.step()
    assert (status.reason, list(rig.log.notes), rig.wire.bodies) == (WitnessReason.BAD_KEY, [8], [])
    assert "the key of the witness is" in status.describe(rig.clock.now)
