"""Implement `marketswarm topology`: show who runs and what flows between services, as tables or graphs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, ask_or_explain
from marketswarm.cli.options import Data, Json, flag, option
from marketswarm.cli.validate import read_valid_truth
from marketswarm.status.topology import read_topology
from marketswarm.status.topology_graph import build_graph, format_dot, format_mermaid
from marketswarm.status.topology_view import MeshSnapshot, ServiceView, TopologyView, build_topology
from marketswarm.text import format_duration


def topology(
    *,
    watch: Annotated[bool, flag("--watch", "Look again every second, until Ctrl-C.", "-w")] = False,
    as_mermaid: Annotated[bool, flag("--mermaid", "The flow as a Mermaid flowchart.")] = False,
    as_dot: Annotated[bool, flag("--dot", "The flow as a digraph for Graphviz.")] = False,
    file: Annotated[
        Path | None, option("--file", "TRUTH", "Draw a truth file alone; no server is asked.")
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show who runs, which keys they write and read, how fast, who lags, and what is wrong with it."""
    if sum((watch, as_mermaid, as_dot)) > 1 or as_json + as_mermaid + as_dot > 1:
        raise typer.BadParameter("--watch, --mermaid and --dot exclude each other, and --json the last two")
    print_one = _choose_printer(as_json=as_json, as_mermaid=as_mermaid, as_dot=as_dot)
    if file is not None:
        no_mesh = MeshSnapshot(why=f"from {file} alone")
        print_one(build_topology(read_valid_truth(file), None, no_mesh, no_mesh))
    elif watch:
        draw = partial(draw_topology, problems_first=True)
        read = partial(ask_or_explain, data, _read, _explain)
        event_loop.run(tables.show_again(read, draw, print_one, as_json=as_json))
    else:
        print_one(ask_fleet(data, _read))


async def _read(fleet: FleetView) -> TopologyView:
    return await read_topology(fleet.truth, fleet.revision, fleet.bus)


def _explain(why: str) -> TopologyView:
    return TopologyView(None, False, [], [], [], why.splitlines())


def _choose_printer(*, as_json: bool, as_mermaid: bool, as_dot: bool) -> Callable[[TopologyView], None]:
    if as_json:
        return output.print_json
    if as_mermaid:
        return lambda found: output.print_lines(format_mermaid(build_graph(found)))
    if as_dot:
        return lambda found: output.print_lines(format_dot(build_graph(found)))
    return lambda found: tables.print_drawing(draw_topology(found))


def draw_topology(found: TopologyView, *, problems_first: bool = False) -> Group:
    """Return the notes, the tables of services and flows, and the problems, as one drawing.

    The problems are at the end, next to the prompt; `problems_first` puts them on top, for a screen that cuts
    off what does not fit.
    """
    notes = [Text(note, style="yellow") for note in found.notes]
    drawn = [_draw_services(found.services), *_draw_flows(found)]
    problems = [Text(f"✗ {each.key} on {each.bus}: {each.text}", style="red") for each in found.wrong]
    if problems_first:
        head = [*problems, *notes]
        return Group(*head, *([Text()] if head else []), *drawn)
    return Group(*notes, *([Text()] if notes else []), *drawn, *([Text()] if problems else []), *problems)


def _draw_services(services: Sequence[ServiceView]) -> RenderableType:
    if all(service.instances is None for service in services):
        return Text("services: " + ", ".join(service.svc for service in services))
    table = tables.make_table()
    table.add_column("service", no_wrap=True, overflow="ellipsis", min_width=7)
    for head, most in (("boot", 8), ("host", 12), ("version", 12)):
        table.add_column(head, no_wrap=True, overflow="ellipsis", max_width=most)
    table.add_column("rev", justify="right", no_wrap=True)
    table.add_column("up", no_wrap=True)
    table.add_column("starts/h", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for service in services:
        for number, cells in enumerate(_list_instance_cells(service)):
            table.add_row("" if number else service.svc, *cells)
    return table


def _list_instance_cells(service: ServiceView) -> Iterator[Sequence[str | Text]]:
    if not service.instances:
        known = service.instances is not None
        yield (*["-"] * 6, Text("nobody beats" if known else "-", style="yellow" if known else "dim"))
        return
    for number, instance in enumerate(service.instances):
        words, style = instance.words, tables.STATUS_STYLES.get(instance.status or "", "")
        if number == 0 and (service.conflict or (service.replicas or 1) != 1):
            words += "; " + "conflict: " * service.conflict + service.words
        if service.conflict or instance.crash_loop:
            style = "red"
        up = None if instance.up_sec is None else format_duration(round(instance.up_sec))
        facts = (instance.boot, instance.host, instance.version, instance.rev, up, instance.restarts_hour)
        yield (*("-" if fact is None else str(fact) for fact in facts), Text(words, style=style))


def _draw_flows(found: TopologyView) -> Iterator[RenderableType]:
    """Yield a table for each bus, with its name above it."""
    wrong = found.problems
    for bus in dict.fromkeys(flow.bus for flow in found.flows):
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column("writers", justify="right", overflow="fold")
        for name in ("key", "now", "readers"):
            table.add_column(name, overflow="fold")
        for flow in (flow for flow in found.flows if flow.bus == bus):
            red = "red" if (bus, flow.key) in wrong else ""
            readers = (f"→ {one.svc} ({one.words})" if one.words else f"→ {one.svc}" for one in flow.readers)
            table.add_row(
                "\n".join(f"{svc} →" for svc in flow.writers) or Text("nobody", style=red or "dim"),
                Text(flow.key, style=red),
                Text(flow.words, style="dim"),
                "\n".join(readers),
            )
        yield from (Text(), Text(bus, style="bold"), table)
