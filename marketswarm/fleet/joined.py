"""Keep on this machine how to reach a fleet on another one, which it has joined: `marketswarm join`.

In the data folder, `joined.json` has the place and the password, for the owner of the folder alone, and
`joined-<fingerprint>.pem` the certificate that the fleet must show. Commands that beat find the fleet there.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson
from pydantic import TypeAdapter

from marketswarm.bus_url import format_host_port, is_bus_url, pin_certificate
from marketswarm.fleet.data_folder import is_private_folder, make_private_folder, write_private_file

_RECORD: Final = "joined.json"
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class JoinedFleet:
    """Where a fleet is and how to log in: a host, and the port of its first bus; each further has the next.

    `fingerprint` belongs to its certificate; empty if an authority vouches for the fleet. `bus_names` are the
    buses that the fleet runs, in the order of their ports.
    """

    host: str
    port: int
    fingerprint: str
    user: str
    password: str = field(repr=False)
    bus_names: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return format_host_port(self.host, self.port)

    def build_url(self, folder: Path, position: int = 0) -> str:
        """Return the URL of a bus, with the password, by its position; a certificate is in `folder`."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        url = f"rediss://{credentials}@{format_host_port(self.host, self.port + position)}"
        if not self.fingerprint:
            return url
        return pin_certificate(url, str(find_joined_certificate(folder, self.fingerprint)))


def find_joined_certificate(folder: Path, fingerprint: str) -> Path:
    return (folder / f"joined-{fingerprint[:16]}.pem").absolute()


def store_certificate(folder: Path, fingerprint: str, pem: str) -> None:
    make_private_folder(folder, closed=False)
    write_private_file(find_joined_certificate(folder, fingerprint), pem.encode())


def store_joined(folder: Path, joined: JoinedFleet) -> None:
    make_private_folder(folder, closed=False)
    write_private_file(folder / _RECORD, orjson.dumps(asdict(joined)))


def read_joined(folder: Path) -> JoinedFleet | None:
    """Return what was stored; None if nothing was, it is malformed, or others may write to the folder."""
    if not is_private_folder(folder):
        return None
    try:
        with (folder / _RECORD).open("rb") as file:
            joined = TypeAdapter(JoinedFleet).validate_json(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return None
    return joined if is_bus_url(joined.build_url(folder)) else None


def read_joined_buses(folder: Path) -> Mapping[str, str]:
    """Return the URLs of the buses by name, with the password; empty if this machine has joined no fleet."""
    joined = read_joined(folder)
    if joined is None:
        return {}
    return {name: joined.build_url(folder, at) for at, name in enumerate(joined.bus_names)}
