"""Write the passwords of a fleet's PostgreSQL: the URLs for its users, and what the server keeps of them.

A truth with an archive gets, in the folder ACCESS_DIR, `database/password` for the role that stores,
`database/reader` for the one that may only read and `database/signals` for the one that may add signals, each
made once; `urls/<user>/database` with the URL for each service that uses one of them; and files of these
names in `acl/postgres` for the server, with SCRAM verifiers, from which a password can't be learned.
`bootstrap.access` writes all with the rest; `python -m bootstrap.database` writes them alone, for fleets
whose users `marketswarm acl` makes.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from marketswarm import log as logs
from marketswarm.access.passwords import (
    DATABASE_READER,
    DATABASE_SIGNALS,
    PRIVATE,
    SecretError,
    load_passwords,
    make_folder_name,
    write_files,
)
from marketswarm.agent import Code, run
from marketswarm.agent.service_config import load_with_sections
from marketswarm.exit import Mistake
from marketswarm.settings import read_settings
from marketswarm.settings.programs import AccessSettings
from marketswarm.truth import Truth, TruthError

NAME: Final = "access"
SERVER: Final = "postgres"
"""The server's name on the network of the fleet, and of its folder beside the folders of the buses."""
READABLE: Final = 0o644
"""The permissions of what a server reads, as another user: verifiers and hashes of passwords alone."""
_ARCHIVE: Final = "archive"
ROLES: Final = {"password": "marketswarm", "reader": DATABASE_READER, "signals": DATABASE_SIGNALS}
"""The name of a role, by the name of the file with its password."""
_USERS: Final = {_ARCHIVE: "password", "board": "reader", "signals": "signals"}
"""By service that is given a URL: the file with the password in it."""
_URL: Final = f"postgresql://{{role}}:{{password}}@{SERVER}:5432/marketswarm"
_ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16


async def main() -> int:
    """Write the files of the database for the truth at TRUTH_PATH into ACCESS_DIR. Raises Exit, code 2."""
    settings = read_settings(AccessSettings)
    logs.configure(NAME, settings)
    path, folder = settings.truth_path, settings.access_dir
    try:
        write_database_files(folder, load_with_sections(path.read_bytes()).truth)
    except TruthError as error:
        raise Mistake(f"TRUTH_PATH: {path} has {len(error.problems)} mistakes") from None
    except SecretError as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        raise Mistake(f"{error.filename or folder}: {error.strerror}") from None
    return Code.DONE


def write_database_files(folder: Path, truth: Truth) -> None:
    """Write the files that changed; nothing for a truth without an archive. Raise SecretError or OSError."""
    if _ARCHIVE not in truth.services:
        return
    passwords, _ = load_passwords(folder / "database", ROLES, make_missing=True)
    urls = {
        name: _URL.format(role=role, password=quote(passwords[name], safe="")) for name, role in ROLES.items()
    }
    users = {svc: urls[name] for svc, name in _USERS.items() if svc in truth.services}
    write_changed(
        {folder / "urls" / make_folder_name(svc) / "database": f"{url}\n" for svc, url in users.items()}
    )
    verifiers = {name: f"{format_verifier(passwords[name])}\n" for name in ROLES}
    write_changed({folder / "acl" / SERVER / name: text for name, text in verifiers.items()}, READABLE)


def format_verifier(password: str, salt: bytes = b"") -> str:
    """Return what PostgreSQL stores of a password for SCRAM-SHA-256, and takes in its place (RFC 5803).

    Without a `salt`, one follows from the password, so that the same password has the same verifier. A salt
    protects nothing here, because our passwords are random, and no two are the same.
    """
    secret = password.encode()
    salt = salt or hashlib.sha256(b"marketswarm:" + secret).digest()[:_SALT_BYTES]
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, _ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(each).decode() for each in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt64}${stored64}:{server64}"


def write_changed(texts: Mapping[Path, str], mode: int = PRIVATE) -> None:
    """Write each text, with the permissions `mode`, unless its file has that text already."""
    write_files({path: text for path, text in texts.items() if _read_text(path) != text}, mode)


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    run(main)
