"""Implement `marketswarm stop`, `start` and `kill`: control an agent of the embedded fleet here."""

from pathlib import Path

from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.options import Data, Svc
from marketswarm.exit import Code, Exit
from marketswarm.fleet import data_folder
from marketswarm.fleet_control import NoFleetError, send_request


def stop(svc: Svc, data: Data = DATA) -> None:
    """Stop an agent of the embedded fleet; it stays stopped until `start`."""
    output.print_line(request_fleet("stop", svc, data))


def start(svc: Svc, data: Data = DATA) -> None:
    """Start an agent of the embedded fleet: stopped, waiting for its restart, or seeded later."""
    output.print_line(request_fleet("start", svc, data))


def kill(svc: Svc, data: Data = DATA) -> None:
    """Kill an agent of the embedded fleet (-9); it is started again once it was missed."""
    output.print_line(request_fleet("kill", svc, data))


def request_fleet(action: str, svc: str, data: Path) -> str:
    """Ask the embedded fleet in folder `data` to stop, start or kill an agent; return its answer."""
    fleet = data_folder.find_fleet(data)
    if fleet is None:
        raise Exit(
            Code.CONFIGURATION,
            f"no embedded fleet runs in {data}\n"
            f"Start one here:     {suggest_command('up', data).strip('`')}\n"
            f"In another folder:  --data DIR\n"
            f"In containers:      docker compose {action} {svc}",
        )
    try:
        done, answer = send_request(fleet.control, action, svc)
    except NoFleetError as error:
        raise Exit(Code.CONFIGURATION, f"the fleet (pid {fleet.pid}) did not answer: {error}") from None
    if not done:
        raise Exit(Code.CONFIGURATION, answer)
    return answer
