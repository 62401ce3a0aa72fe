"""Pack a snapshot for the script of pages, which reads all of it: most services differ in few fields. Pure.

static/stream.js unpacks it. The API has every field of every service instead.
"""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

import orjson

from services.board.fleet.snapshot import FLEET_FIELDS, SERVICE_FIELDS, FleetSnapshot, ServiceSnapshot

_PLAIN: Final = tuple(name for name in SERVICE_FIELDS if name not in ("recent", "uptime"))
_read_plain: Final = attrgetter(*_PLAIN)


def pack_snapshot(snapshot: FleetSnapshot) -> bytes:
    """Return a snapshot as JSON in which `usual` has the fields of the first service.

    Each of `services` has its name and the fields that are others. `recent` and `uptime` are places in lists
    of that name, because most services have the same ones.
    """
    found: dict[str, Any] = {name: getattr(snapshot, name) for name in ("at", *FLEET_FIELDS)}
    usual = _read_plain(snapshot.services[0]) if snapshot.services else ()
    places: tuple[dict[Any, int], dict[Any, int]] = {}, {}
    found["usual"] = dict(zip(_PLAIN, usual, strict=False))
    found["services"] = [_pack(one, usual, *places) for one in snapshot.services]
    # a new place is the next one, so what the first service of each place has is in their order
    found["recent"] = _list_firsts(snapshot.services, found["services"], "recent")
    found["uptime"] = _list_firsts(snapshot.services, found["services"], "uptime")
    return orjson.dumps(found)


def _pack(
    one: ServiceSnapshot, usual: Iterable[Any], recent: dict[Any, int], uptime: dict[Any, int]
) -> dict[str, Any]:
    pairs = zip(_PLAIN, _read_plain(one), usual, strict=True)
    packed = {name: value for name, value, known in pairs if value is not known and value != known}
    packed["svc"] = one.svc
    # equal spans and shares are one object, as `HistoryBuilder` makes them
    packed["recent"] = recent.setdefault(id(one.recent), len(recent))
    packed["uptime"] = uptime.setdefault((*one.uptime, *map(id, one.uptime.values())), len(uptime))
    return packed


def _list_firsts(
    services: Iterable[ServiceSnapshot], packed: Iterable[Mapping[str, Any]], name: str
) -> list[Any]:
    found: list[Any] = []
    for one, each in zip(services, packed, strict=True):
        if each[name] == len(found):
            found.append(getattr(one, name))
    return found
