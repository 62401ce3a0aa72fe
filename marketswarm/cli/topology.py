"""Implement `marketswarm topology`: show who runs and what flows between services, as tables or graphs.

A graph is text that another program draws: a Mermaid flowchart or a Graphviz digraph. Its nodes have ids of
our own; names stand in quotes, and each character that could end a quote is escaped.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.options import Data, Json
from marketswarm.cli.validate import read_valid_truth
from marketswarm.exit import Code, Exit
from marketswarm.status import topology as topology_reading
from marketswarm.status.topology_view import (
    FlowView,
    InstanceView,
    MeshSnapshot,
    ServiceView,
    TopologyView,
    build_topology,
    describe_instances,
    describe_key,
    describe_reader,
    format_rate,
)
from marketswarm.text import format_duration

_REFRESH_SEC: Final = 1.0
_STATUS_STYLES: Final = {"degraded": "yellow", "stopping": "yellow"}
_PLAIN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:,/?-+() ")
_SHAPES = {"channel": ("([", "])"), "stream": ("[(", ")]")}
_DOT_SHAPES = {"channel": "ellipse", "stream": "cylinder"}


def topology(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")
    ] = False,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="The flow as a Mermaid flowchart.")] = False,
    as_dot: Annotated[bool, typer.Option("--dot", help="The flow as a digraph for Graphviz.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="TRUTH", help="Draw a truth file alone; no server is asked."),
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
        event_loop.run(_watch_topology(data, print_one, as_json=as_json))
    else:
        print_one(event_loop.run(read_topology(data)))


async def read_topology(data: Path) -> TopologyView:
    async with open_fleet(data) as fleet:
        return await topology_reading.read_topology(fleet.truth, fleet.revision, fleet.bus)


def _choose_printer(*, as_json: bool, as_mermaid: bool, as_dot: bool) -> Callable[[TopologyView], None]:
    if as_json:
        return output.print_json
    if as_mermaid:
        return lambda found: output.print_lines(format_mermaid(found))
    if as_dot:
        return lambda found: output.print_lines(format_dot(found))
    return lambda found: tables.print_drawing(draw_topology(found))


async def _watch_topology(data: Path, print_one: Callable[[TopologyView], None], *, as_json: bool) -> None:
    def draw(found: TopologyView) -> RenderableType:
        return draw_topology(found, problems_first=True)

    with tables.open_screen(draw, print_one, as_json=as_json) as show:
        while True:
            try:
                found = await read_topology(data)
            except Exit as end:
                if end.code == Code.CONFIGURATION:
                    raise
                found = TopologyView(None, False, [], [], [], end.message.splitlines())
            show(found)
            await asyncio.sleep(_REFRESH_SEC)


def draw_topology(found: TopologyView, *, problems_first: bool = False) -> Group:
    """Return the notes, the tables of services and flows, and the problems, as one drawing.

    The problems are at the end, next to the prompt; `problems_first` puts them on top, for a screen that cuts
    off what does not fit.
    """
    notes = [Text(note, style="yellow") for note in found.notes]
    tables = [_draw_services(found), *_draw_flows_by_bus(found)]
    problems = [Text(f"✗ {each.key} on {each.bus}: {each.text}", style="red") for each in found.wrong]
    if problems_first:
        head = [*problems, *notes]
        return Group(*head, *([Text()] if head else []), *tables)
    return Group(*notes, *([Text()] if notes else []), *tables, *([Text()] if problems else []), *problems)


def _draw_services(found: TopologyView) -> RenderableType:
    if all(service.instances is None for service in found.services):
        return Text("services: " + ", ".join(service.svc for service in found.services))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("service", no_wrap=True, overflow="ellipsis", min_width=7)
    table.add_column("boot", no_wrap=True, overflow="ellipsis", max_width=8)
    for head in ("host", "version"):
        table.add_column(head, no_wrap=True, overflow="ellipsis", max_width=12)
    table.add_column("rev", justify="right", no_wrap=True)
    table.add_column("up", no_wrap=True)
    table.add_column("starts/h", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for service in found.services:
        for number, cells in enumerate(_list_instance_cells(service)):
            table.add_row("" if number else service.svc, *cells)
    return table


def _list_instance_cells(service: ServiceView) -> Iterator[Sequence[str | Text]]:
    if not service.instances:
        known = service.instances is not None
        yield (*["-"] * 6, Text("nobody beats" if known else "-", style="yellow" if known else "dim"))
        return
    for number, instance in enumerate(service.instances):
        words = [_describe_instance(instance)]
        if number == 0 and (service.conflict or (service.replicas or 1) != 1):
            words.append("conflict: " * service.conflict + describe_instances(service))
        style = (
            "red"
            if service.conflict or instance.crash_loop
            else _STATUS_STYLES.get(instance.status or "", "")
        )
        facts = (instance.boot, instance.host, instance.version, instance.rev)
        yield (
            *("-" if fact is None else str(fact) for fact in facts),
            "-" if instance.up_sec is None else format_duration(round(instance.up_sec)),
            "-" if instance.restarts_hour is None else str(instance.restarts_hour),
            Text("; ".join(words), style=style),
        )


def _describe_instance(instance: InstanceView) -> str:
    words = instance.status or "-"
    if instance.detail:
        words += f": {instance.detail}"
    if instance.crash_loop:
        words = f"crash loop; {words}"
    if instance.skew_sec is not None:
        direction = "ahead" if instance.skew_sec > 0 else "behind"
        words += f"; its clock is {format_duration(abs(instance.skew_sec))} {direction}"
    return words


def _draw_flows_by_bus(found: TopologyView) -> Iterator[RenderableType]:
    wrong = {(problem.bus, problem.key) for problem in found.wrong}
    for bus, flows in _group_by_bus(found).items():
        yield Text()
        yield Text(bus, style="bold")
        yield _draw_flows(flows, wrong)


def _draw_flows(flows: Sequence[FlowView], wrong: set[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("writers", justify="right", overflow="fold")
    for name in ("key", "now", "readers"):
        table.add_column(name, overflow="fold")
    for flow in flows:
        red = "red" if (flow.bus, flow.key) in wrong else ""
        described = ((reader.svc, describe_reader(reader)) for reader in flow.readers)
        readers = (f"→ {svc} ({words})" if words else f"→ {svc}" for svc, words in described)
        table.add_row(
            "\n".join(f"{svc} →" for svc in flow.writers) or Text("nobody", style=red or "dim"),
            Text(flow.key, style=red),
            Text(describe_key(flow), style="dim"),
            "\n".join(readers),
        )
    return table


def format_mermaid(topology: TopologyView) -> Iterator[str]:
    services, keys = _make_node_ids(topology)
    yield "flowchart LR"
    for service in topology.services:
        if service.svc in services:
            yield f"  {services[service.svc]}[{_quote_mermaid(service.svc, describe_instances(service))}]"
    for number, (bus, flows) in enumerate(_group_by_bus(topology).items()):
        yield f"  subgraph b{number}[{_quote_mermaid(bus)}]"
        for flow in flows:
            before, after = _SHAPES.get(flow.kind or "", ("[(", ")]"))
            label = _quote_mermaid(flow.key, describe_key(flow))
            yield f"    {keys[flow.bus, flow.key]}{before}{label}{after}"
        yield "  end"
    for start, end, words in _list_edges(topology, services, keys):
        yield f"  {start} -->{f'|{_quote_mermaid(words)}|' if words else ''} {end}"
    wrong = _find_problem_nodes(topology, keys)
    if wrong:
        yield "  classDef wrong stroke:#c00,stroke-width:3px"
        yield f"  class {','.join(wrong)} wrong"


def format_dot(topology: TopologyView) -> Iterator[str]:
    services, keys = _make_node_ids(topology)
    wrong = _find_problem_nodes(topology, keys)
    yield "digraph marketswarm {"
    yield "  rankdir=LR;"
    for service in topology.services:
        if service.svc in services:
            label = _quote_dot(service.svc, describe_instances(service))
            yield f"  {services[service.svc]} [shape=box, label={label}];"
    for number, (bus, flows) in enumerate(_group_by_bus(topology).items()):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label={_quote_dot(bus)};"
        for flow in flows:
            node = keys[flow.bus, flow.key]
            shape = _DOT_SHAPES.get(flow.kind or "", "cylinder")
            red = ", color=red, penwidth=3" if node in wrong else ""
            yield f"    {node} [shape={shape}, label={_quote_dot(flow.key, describe_key(flow))}{red}];"
        yield "  }"
    for start, end, words in _list_edges(topology, services, keys):
        yield f"  {start} -> {end}{f' [label={_quote_dot(words)}]' if words else ''};"
    yield "}"


def _make_node_ids(topology: TopologyView) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    busy = {svc for flow in topology.flows for svc in (*flow.writers, *(one.svc for one in flow.readers))}
    services = [service.svc for service in topology.services if service.svc in busy]
    return (
        {svc: f"s{number}" for number, svc in enumerate(services)},
        {(flow.bus, flow.key): f"k{number}" for number, flow in enumerate(topology.flows)},
    )


def _group_by_bus(topology: TopologyView) -> dict[str, list[FlowView]]:
    buses = dict.fromkeys(flow.bus for flow in topology.flows)
    return {bus: [flow for flow in topology.flows if flow.bus == bus] for bus in buses}


def _list_edges(
    topology: TopologyView, services: dict[str, str], keys: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str, str]]:
    """Yield the start, the end and the label of each arrow: writer to key, key to reader."""
    for flow in topology.flows:
        node = keys[flow.bus, flow.key]
        speed = "" if flow.rate is None else format_rate(flow.rate)
        yield from ((services[svc], node, speed) for svc in flow.writers)
        yield from ((node, services[one.svc], describe_reader(one)) for one in flow.readers)


def _find_problem_nodes(topology: TopologyView, keys: dict[tuple[str, str], str]) -> list[str]:
    return list(dict.fromkeys(keys[one.bus, one.key] for one in topology.wrong if (one.bus, one.key) in keys))


def _quote_mermaid(*lines: str) -> str:
    parts = ("".join(c if c in _PLAIN_CHARACTERS else f"#{ord(c)};" for c in line) for line in lines if line)
    return f'"{"<br/>".join(parts)}"'


def _quote_dot(*lines: str) -> str:
    # Graphviz reads entities of HTML, too
    parts = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return '"' + "\\n".join(parts) + '"'
