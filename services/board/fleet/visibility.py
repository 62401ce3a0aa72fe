"""Decide what everyone may see: the services and tags that the truth marks public, and their paths. Pure."""

from typing import Final

from marketswarm.status.service_rows import ServiceState
from services.board.fleet.snapshot import FleetSnapshot, ServiceSnapshot
from services.board.settings import PublicSettings

PUBLIC_PATH: Final = "/public"
BADGE_PATH: Final = "/badge/"
TAG_BADGE_PATH: Final = "/badge/tag/"
ALL_SERVICES: Final = "*"
"""Stands for a tag that every service has, in the path of a badge. That badge is never public."""
_DOWN: Final = (ServiceState.FAILED, ServiceState.DOWN, ServiceState.SILENT)


def is_public(service: ServiceSnapshot, public: PublicSettings) -> bool:
    return service.svc in public.services or not set(public.tags).isdisjoint(service.tags)


def list_public(snapshot: FleetSnapshot, public: PublicSettings, tag: str = "") -> list[ServiceSnapshot]:
    return [one for one in snapshot.services if is_public(one, public) and (not tag or tag in one.tags)]


def simplify_state(state: ServiceState) -> ServiceState:
    """Return up, down or unknown, all that the public sees. A job whose last run failed is down."""
    if state in _DOWN:
        return ServiceState.DOWN
    return ServiceState.UP if state is ServiceState.UP else ServiceState.UNKNOWN


def split_badge(file: str) -> tuple[str, str]:
    """Return the name and the form of a badge: `shop` and `svg` of `shop.svg`."""
    name, _, form = file.rpartition(".")
    return name, form


def is_public_path(path: str, snapshot: FleetSnapshot | None, public: PublicSettings) -> bool:
    """Return True if everyone may read a path, because it shows only what the truth marks public.

    Without a snapshot no badge of a service is public, because its tags are not known yet.
    """
    if path == PUBLIC_PATH or path.startswith(f"{PUBLIC_PATH}/"):
        return bool(public.services or public.tags)
    if path.startswith(TAG_BADGE_PATH):
        tag = split_badge(path.removeprefix(TAG_BADGE_PATH))[0]
        return tag != ALL_SERVICES and tag in public.tags
    if not path.startswith(BADGE_PATH) or snapshot is None:
        return False
    found = snapshot.find(split_badge(path.removeprefix(BADGE_PATH))[0])
    return found is not None and is_public(found, public)
