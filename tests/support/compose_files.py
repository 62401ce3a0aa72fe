"""What the compose files describe: compose.yaml, and compose.market.yaml and compose.healing.yaml over it."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

Service = dict[str, Any]

ROOT = Path(__file__).parents[2]
UNITS = {"k": 10, "m": 20, "g": 30, "Ki": 10, "Mi": 20, "Gi": 30}
FILES = ("compose.yaml", "compose.market.yaml")
TEXT, MARKET_TEXT = ((ROOT / file).read_text(encoding="utf-8") for file in FILES)
HEALING_TEXT = (ROOT / "compose.healing.yaml").read_text(encoding="utf-8")
PLAIN, OVERLAY, HEALING = (
    yaml.load(text, Loader=yaml.CSafeLoader) for text in (TEXT, MARKET_TEXT, HEALING_TEXT)
)


def get_target(volume: str | Service) -> str:
    return str(volume["target"]) if isinstance(volume, dict) else volume.split(":")[1]


def merge(first: Service, second: Service) -> Service:
    """Return what Compose makes of two descriptions of a service: the second one changes the first."""
    made = {**first, **second}
    for key in ("environment", "depends_on", "labels"):
        if key in made:
            made[key] = {**first.get(key, {}), **second.get(key, {})}
    if "volumes" in made:
        volumes = [*first.get("volumes", []), *second.get("volumes", [])]
        made["volumes"] = list({get_target(each): each for each in volumes}.values())
    return made


def extend(name: str, services: dict[str, Service]) -> Service:
    """Return a service of one file, with what it extends."""
    service = dict(services[name])
    extends = service.pop("extends", None)
    if extends is None:
        return service
    return merge(extend(extends["service"], PLAIN["services"] if "file" in extends else services), service)


def merge_files() -> dict[str, Service]:
    """Return the services of both files that run by default."""
    plain, over = PLAIN["services"], OVERLAY["services"]
    merged = {
        name: merge(plain.get(name, {}), extend(name, over) if name in over else {})
        for name in {**plain, **over}
    }
    return {name: service for name, service in merged.items() if "profiles" not in service}


SERVICES: dict[str, Service] = PLAIN["services"]
MARKET = merge_files()
FLEETS = {"fleet": SERVICES, "market": MARKET}
DOCUMENTS: dict[str, Any] = {
    "fleet": json.loads((ROOT / "truth.json").read_bytes()),
    "market": json.loads((ROOT / "examples/market.json").read_bytes()),
}
TRUTHS: dict[str, dict[str, Any]] = {fleet: truth["services"] for fleet, truth in DOCUMENTS.items()}


def filled_in(text: str) -> str:
    """What compose makes of a text when nothing is set."""
    plain = re.sub(r"\$\{[A-Z_]+(?::?-([^}]*)|:?\+[^}]*)?\}", lambda found: found[1] or "", text)
    return plain.replace("$$", "$")


def size(text: str) -> int:
    """Return the bytes of a size of Compose (`512m`) or of Kubernetes (`512Mi`)."""
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return int(number) << UNITS[unit]
