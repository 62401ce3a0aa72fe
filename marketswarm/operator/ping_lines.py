"""Write the lines by which a job or a daemon pings the board, to be pasted where it runs. Pure.

On another machine the program may also write to the bus itself; then it needs the bus, and not the board.
"""

from collections.abc import Callable, Iterable
from typing import Final

from marketswarm.bus import get_url_variable
from marketswarm.truth.document_edit import AddedKind
from marketswarm.truth.schedule import find_cron_fields

_CURL: Final = "curl -fsS -m 10 --retry 5"
# The engine ends a check after 30 s, and its interval is the retry. A board that is away must not make a
# container unhealthy: some orchestrators restart it then.
_HEALTHCHECK: Final = "HEALTHCHECK --interval=60s CMD curl -fsS -m 10"
_EXAMPLE_SCHEDULE: Final = "0 3 * * *"


def make_ping_lines(kind: AddedKind, svc: str, url: str, schedule: str | None = None) -> dict[str, str]:
    """Return, by the program that they are for, the lines that ping `url` for a service.

    `svc` is the name of a service of a valid truth, so it means nothing to a shell; `url` ends in its key.
    A job pings when it ends, with its exit code where there is one; a daemon pings while it works.
    """
    make: Callable[[str, str, str], dict[str, str]] = _make_job_lines
    if kind is AddedKind.DAEMON:
        make = _make_daemon_lines
    when = schedule if schedule and find_cron_fields(schedule) else _EXAMPLE_SCHEDULE
    return make(svc, url, when)


def make_bus_lines(kind: AddedKind, svc: str, buses: Iterable[str]) -> dict[str, str]:
    """Return, by the command that they are for, the lines by which a program beats on the buses themselves.

    `buses` are the names of those that it writes to. Their addresses, and their passwords if they have users,
    are for a person to fill in.
    """
    head = "".join(f"export {get_url_variable(bus)}=redis://{bus}:6379\n" for bus in buses)
    if kind is AddedKind.DAEMON:
        return {"marketswarm beat": f"{head}marketswarm beat {svc} --every 60s"}
    return {"marketswarm exec": f"{head}marketswarm exec --svc {svc} -- /usr/local/bin/{svc}"}


def _make_job_lines(svc: str, url: str, when: str) -> dict[str, str]:
    state = '"$(test "$SERVICE_RESULT" = success && echo 0 || echo fail)"'
    return {
        "curl": f'{_CURL} "{url}"',
        "cron": f'{when}  /usr/local/bin/{svc}; {_CURL} "{url}/$?"',
        "systemd": f"# systemctl edit {svc}.service\n[Service]\n"
        f"ExecStopPost=/bin/sh -c '{_CURL} {url}/{state}'",
        "Docker": f'docker run --rm {svc.lower()}; {_CURL} "{url}/$?"',
        "Python": f'import urllib.request\n\nurllib.request.urlopen("{url}", timeout=10)',
        "PowerShell": f'Invoke-RestMethod -Uri "{url}" -TimeoutSec 10',
    }


def _make_daemon_lines(svc: str, url: str, _when: str) -> dict[str, str]:
    return {
        "curl": f'{_CURL} "{url}"',
        "cron": f'* * * * *  pgrep -x {svc} >/dev/null && {_CURL} "{url}"',
        "systemd": f"# {svc}-beat.service, which a timer with OnUnitActiveSec=60 starts\n"
        f"[Service]\nType=oneshot\nExecCondition=/usr/bin/systemctl is-active --quiet {svc}.service\n"
        f"ExecStart=/usr/bin/{_CURL} {url}",
        "Docker": f'# in its Dockerfile, where the image has curl\n{_HEALTHCHECK} "{url}" || true',
        "Python": f'import urllib.request\n\nurllib.request.urlopen("{url}", timeout=10)  # in its loop',
        "PowerShell": f'Invoke-RestMethod -Uri "{url}" -TimeoutSec 10',
    }
