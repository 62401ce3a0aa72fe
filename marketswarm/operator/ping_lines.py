"""Write the lines by which a job or a daemon pings the board, to be pasted where it runs. Pure.

On another machine the program may also write to the bus itself; then it needs the bus, and not the board.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import get_url_variable
from marketswarm.truth.document_edit import AddedKind
from marketswarm.truth.schedule import find_cron_fields

_RETRY: Final = " --retry 5 --retry-connrefused"  # it is refused while the board restarts
CURL: Final = f"curl -fsS -m 10{_RETRY}"
"""The command that pings, but for the URL; by hand one sees its answer, `OK`."""
_QUIET: Final = " -o /dev/null"  # cron sends by mail what a command prints
_MAX_PROCESS_NAME: Final = 15  # bytes of it, which the kernel keeps
_PLAIN: Final = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
# The engine ends a check after 30 s, and its interval is the retry. A board that is away must not make a
# container unhealthy: some orchestrators restart it then.
_HEALTHCHECK: Final = "HEALTHCHECK --interval=60s CMD"
_EXAMPLE_SCHEDULE: Final = "0 3 * * *"


def make_ping_lines(
    kind: AddedKind, svc: str, url: str, schedule: str | None = None, certificate: str = ""
) -> dict[str, str]:
    """Return, by the program that they are for, the lines that ping `url` for a service.

    `svc` is the name of a service of a valid truth, so it means nothing to a shell; `url` ends in its key.
    A job pings when it ends, with its exit code where there is one; a daemon pings while it works.
    `certificate` is the path of the file with the certificate that the board shows, if no authority that each
    machine knows vouches for it.
    """
    target = _Target(url, certificate)
    curl = target.curl
    if kind is AddedKind.DAEMON:
        # not `pgrep -f`, which finds the shell of this very line
        is_kept = len(svc) <= _MAX_PROCESS_NAME
        runs = f"pgrep -x {svc} >/dev/null" if is_kept else f"systemctl is-active --quiet {svc}.service"
        cron = f'* * * * *  {runs} && {curl}{_QUIET} "{url}"'
        systemd = (
            f"# {svc}-beat.service, which a timer with OnUnitActiveSec=60 starts\n"
            f"[Service]\nType=oneshot\nExecCondition=/usr/bin/systemctl is-active --quiet {svc}.service\n"
            f"ExecStart=/usr/bin/{curl} {url}"
        )
        docker = (
            f"# in its Dockerfile, where the image has curl\n"
            f'{_HEALTHCHECK} {curl.replace(_RETRY, "")} "{url}" || true'
        )
    else:
        when = schedule if schedule and find_cron_fields(schedule) else _EXAMPLE_SCHEDULE
        cron = f'{when}  /usr/local/bin/{svc}; {curl}{_QUIET} "{url}/$?"'
        state = '"$(test "$SERVICE_RESULT" = success && echo 0 || echo fail)"'
        systemd = f"# systemctl edit {svc}.service\n[Service]\nExecStopPost=/bin/sh -c '{curl} {url}/{state}'"
        docker = f'docker run --rm {svc.lower()}; {curl} "{url}/$?"'
    return {
        "curl": f'{curl} "{url}"',
        "cron": cron,
        "systemd": systemd,
        "Docker": docker,
        "Python": target.make_python(is_in_loop=kind is AddedKind.DAEMON),
        "PowerShell": target.make_powershell(),
    }


def make_bus_lines(kind: AddedKind, svc: str, buses: Iterable[str]) -> dict[str, str]:
    """Return, by the command that they are for, the lines by which a program beats on the buses themselves.

    `buses` are the names of those that it writes to. Their addresses, and their passwords if they have users,
    are for a person to fill in.
    """
    head = "".join(f"export {get_url_variable(bus)}=redis://{bus}:6379\n" for bus in buses)
    if kind is AddedKind.DAEMON:
        return {"marketswarm beat": f"{head}marketswarm beat {svc} --every 60s"}
    return {"marketswarm exec": f"{head}marketswarm exec --svc {svc} -- /usr/local/bin/{svc}"}


@dataclass(frozen=True, slots=True)
class _Target:
    """What is pinged: a URL, and the path of its certificate; empty if it needs none."""

    url: str
    certificate: str

    @property
    def curl(self) -> str:
        if not self.certificate:
            return CURL
        # double quotes, because some lines stand between single ones
        path = self.certificate if _PLAIN.fullmatch(self.certificate) else f'"{self.certificate}"'
        return f"{CURL} --cacert {path}"

    def make_python(self, *, is_in_loop: bool) -> str:
        imports, context, argument = "import urllib.request\n", "", ""
        if self.certificate:
            imports = f"import ssl\n{imports}"
            context = f"context = ssl.create_default_context(cafile={self.certificate!r})\n"
            argument = ", context=context"
        ping = f'urllib.request.urlopen("{self.url}", timeout=10{argument})'
        if is_in_loop:  # a board that restarts must not end what it is to watch
            caught = 'except OSError as error:\n    print("no ping:", error)'
            ping = f"try:  # in its loop\n    {ping}\n{caught}"
        return f"{imports}\n{context}{ping}"

    def make_powershell(self) -> str:
        store = r"-CertStoreLocation Cert:\CurrentUser\Root"
        once = (
            f'# once: Import-Certificate -FilePath "{self.certificate}" {store}\n' if self.certificate else ""
        )
        return f'{once}Invoke-RestMethod -Uri "{self.url}" -TimeoutSec 10'
