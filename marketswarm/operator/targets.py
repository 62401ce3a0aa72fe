"""Name what a silence can be about: the services, buses and probe targets of a truth. Pure."""

from collections.abc import Mapping

from marketswarm.operator.silences import Silence
from marketswarm.truth import Truth, find_probe_targets

_PATTERN_CHARS = frozenset("*?[")


def list_targets(truth: Truth) -> dict[str, tuple[str, ...]]:
    """Return the tags of every service, bus and probe target that a notification can be about, by name."""
    tags: dict[str, tuple[str, ...]] = dict.fromkeys([watch.svc for watch in truth.watched()], ())
    tags |= dict.fromkeys(truth.bus_names(), ())
    tags |= {svc: service.tags for svc, service in truth.services.items()}
    return tags | {target.svc: target.tags for target in find_probe_targets(truth)}


def match_targets(silence: Silence, targets: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [name for name, tags in targets.items() if silence.matches(name, tags)]


def find_unknown_target(silence: Silence, targets: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the first name in a silence that is neither a target nor a pattern; None if there is none."""
    return next(
        (name for name in silence.services if name not in targets and not _PATTERN_CHARS & set(name)), None
    )
