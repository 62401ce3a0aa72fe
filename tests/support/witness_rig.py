"""A log in memory, a real witness in this process, and the signer between them."""

from marketswarm.net.http import HttpError, HttpResponse
from marketswarm.postgres.errors import PostgresAwayError
from services.signals.log.merkle import append_entry, hash_entry
from services.signals.log.note import SignatureKind, make_key
from services.signals.proofs.signer import CheckpointSigner, SignerSettings, WitnessTarget
from services.signals.store.reader import LastCosignature
from services.signals.witness.store import WitnessStore
from services.signals.witness.witness import Witness

ORIGIN = "log.example/signals"
NOW = 1_790_000_000.0


class Clock:
    """A wall clock that a test moves."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class MemoryLog:
    """The tables of the log in memory, which a test may change as a superuser could."""

    def __init__(self):
        self.size, self.nodes, self.notes, self.lines, self.newest_key, self.is_away = (
            0,
            {},
            {},
            {},
            None,
            False,
        )

    def add(self, count=1, text=b"entry"):
        for number in range(self.size, self.size + count):
            self.nodes.update(append_entry(number, self.nodes, hash_entry(text + b"%d" % number)))
        self.size += count

    def rewrite(self, text=b"changed"):
        size, self.size, self.nodes = self.size, 0, {}
        self.add(size, text)

    async def read_size(self):
        if self.is_away:
            raise PostgresAwayError("connection refused")
        return self.size

    async def read_nodes(self, nodes):
        return {each: self.nodes[each] for each in nodes if each in self.nodes}

    async def read_newest_key(self):
        return self.newest_key

    async def read_checkpoint(self):
        return self.notes[max(self.notes)] if self.notes else None

    async def read_cosignature(self, witness):
        known = {size: found for (size, name), found in self.lines.items() if name == witness}
        return LastCosignature(max(known), *known[max(known)]) if known else None

    async def write_checkpoint(self, size, _at, note):
        self.notes.setdefault(size, note)

    async def write_cosignature(self, size, witness, at_sec, line):
        self.lines.setdefault((size, witness), (at_sec, line))


class Wire:
    """Stands for HTTP: asks the witness in this process, or fails as a test says."""

    def __init__(self, witness):
        self.witness, self.is_away, self.answer, self.bodies = witness, False, None, []
        self.before = self.sign = None

    async def fetch(self, method, url, *, within_sec, max_bytes, body):
        assert (method, url) == ("POST", "http://witness.example/add-checkpoint")
        assert within_sec <= 10
        assert max_bytes <= 65_536
        self.bodies.append(body)
        if self.is_away:
            raise HttpError(ConnectionRefusedError("refused"), HttpResponse(0, b""))
        if self.answer is not None:
            return self.answer
        if self.sign is not None:
            return HttpResponse(200, self.sign(body).encode())
        if self.before is not None:
            await self.before()
        found = self.witness.add_checkpoint(body)
        return HttpResponse(int(found.status), found.body.encode())


class WitnessRig:
    """A log, a witness and a signer between them."""

    def __init__(self, path):
        self.clock, self.log, self.path = Clock(), MemoryLog(), path
        self.key = make_key(ORIGIN, SignatureKind.ED25519)
        self.witness_key = make_key("witness.example/one", SignatureKind.COSIGNATURE)
        self.witness_is_fast_sec = 0
        self.read_key = lambda: self.key
        self._stores = []
        self.wire = Wire(self.open_witness())
        target = WitnessTarget("http://witness.example/", str(self.witness_key.public))
        self.settings = SignerSettings(ORIGIN, 60.0, target)
        self.log.add(5)
        self.reports = []
        self.signer = self.make_signer()

    def close(self):
        """Close each file that was opened; one that a test has closed is closed already."""
        for store in self._stores:
            store.close()

    def open_witness(self, name="witness.sqlite", logs=None):
        logs = {ORIGIN: (self.key.public,)} if logs is None else logs
        self.store = WitnessStore(self.path / name)
        self._stores.append(self.store)
        return Witness(self.witness_key, logs, self.store, lambda: self.clock.now + self.witness_is_fast_sec)

    def make_signer(self):
        return CheckpointSigner(
            self.log,
            lambda: self.read_key(),
            lambda: self.settings,
            self.wire,
            report=self.reports.append,
            now=self.clock,
        )

    async def step(self, more=3, sec=60):
        """Let the log grow and a minute pass, and return the status after the next attempt."""
        self.log.add(more)
        self.clock.now += sec
        await self.signer.step()
        return self.signer.status
