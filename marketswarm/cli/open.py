"""Implement `marketswarm open`: show the board, the page of a fleet, in a browser."""

import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from marketswarm.browser import open_in_browser
from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.options import Data
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.fleet import data_folder
from marketswarm.fleet.plan import BOARD_PORT, LAST_PORT, find_board_host, format_board_url

_CONNECT_WITHIN_SEC: Final = 2.0


def open_board(data: Data = DATA) -> None:
    """Open the board of the fleet here in a browser, and print its address.

    Elsewhere BOARD_HOST and BOARD_PORT say where it is. Without a browser, only the address is printed. Ends
    with 3 when no board answers there.
    """
    url = find_board(data)
    silence = find_board_silence(url, data)
    if silence:
        raise Exit(Code.NO_BUS, silence)
    output.print_line(url)
    open_in_browser(url)


def find_board(data: Path) -> str:
    """Return the URL of the board: of the embedded fleet in folder `data`, or as the environment says."""
    fleet = data_folder.find_fleet(data)
    if fleet is not None and fleet.board:
        return fleet.board
    port = os.environ.get("BOARD_PORT") or str(BOARD_PORT)
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) <= LAST_PORT):
        raise Mistake(f"BOARD_PORT: {port!r} is not a port from 1 to {LAST_PORT}")
    return format_board_url(int(port), find_board_host(os.environ))


def find_shared_board(data: Path) -> tuple[str, str]:
    """Return the URL of the board for other machines, and the path of its certificate.

    Both are empty unless the embedded fleet in folder `data` listens for others.
    """
    fleet = data_folder.find_fleet(data)
    return ("", "") if fleet is None else (fleet.shared_board, fleet.certificate)


def find_board_silence(url: str, data: Path) -> str:
    """Return why no board answers at a URL, and what to do about it; an empty text if one answers."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), _CONNECT_WITHIN_SEC).close()
    except OSError as error:
        start = suggest_command("up", data)
        return (
            f"no board answers at {url} ({error.strerror or 'no answer'}): {start} starts one with a fleet, "
            "BOARD_HOST and BOARD_PORT name another"
        )
    return ""
