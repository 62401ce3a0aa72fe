"""Build the signer of an agent: where its key is, who witnesses, and how often, by the truth in force."""

from collections.abc import Callable

from marketswarm.agent import Agent
from marketswarm.net.http import HttpClient
from services.signals.key_file import read_key_file
from services.signals.log.note import PrivateKey, SignatureKind
from services.signals.proofs.signer import (
    CheckpointSigner,
    CheckpointStore,
    SignerSettings,
    SignerStatus,
    WitnessTarget,
)
from services.signals.settings import SignalsEnvironment, SignalsSettings, find_origin


def make_signer(
    me: Agent[SignalsEnvironment],
    settings_now: Callable[[], SignalsSettings],
    store: CheckpointStore,
    http: HttpClient,
    report: Callable[[SignerStatus], None] = lambda _status: None,
) -> CheckpointSigner:
    """Return a signer whose `run` belongs beside the leader's cycle. `report` gets its status each time."""
    return CheckpointSigner(
        store,
        lambda: read_log_key(me.settings),
        lambda: SignerSettings(
            find_origin(settings_now(), me.truth),
            settings_now().settings.checkpoint_sec,
            find_witness(settings_now(), me.settings),
        ),
        http,
        report=report,
    )


def read_log_key(environment: SignalsEnvironment) -> PrivateKey | None:
    """Return the key of the log, None if no file is named. Raises KeyFileError."""
    path = environment.signals_log_key_file
    return None if path is None else read_key_file(path, SignatureKind.ED25519)


def find_witness(settings: SignalsSettings, environment: SignalsEnvironment) -> WitnessTarget | None:
    """Return the witness that the truth names, else the one of the environment, which needs a key, too."""
    if settings.settings.witness is not None:
        return WitnessTarget(settings.settings.witness.url, settings.settings.witness.key)
    if environment.signals_witness_url is None or environment.signals_witness_key is None:
        return None
    return WitnessTarget(environment.signals_witness_url, environment.signals_witness_key)
