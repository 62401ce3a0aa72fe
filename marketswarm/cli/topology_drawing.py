"""`topology` on paper: a table of who runs, one of what flows a bus, and what is wrong."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from marketswarm.cli.topology_picture import Flow, Instance, Picture, Reader, Service
from marketswarm.cli.topology_words import of_key, of_reader, of_service
from marketswarm.text import format_duration

_STATES = {"degraded": "yellow", "stopping": "yellow"}


def drawn(picture: Picture, *, worst_first: bool = False) -> Group:
    """The whole; what is wrong at its end, where a shell leaves the eye, or first, for a screen that cuts."""
    parts = [_who(picture), *_what(picture)]
    wrong = list(_wrong(picture))
    gap = [Text()] if wrong else []
    return Group(*([*wrong, *gap, *parts] if worst_first else [*parts, *gap, *wrong]))


def _who(picture: Picture) -> RenderableType:
    if any(service.instances is not None for service in picture.services):
        return _services(picture.services)
    return Text("services: " + ", ".join(service.svc for service in picture.services))


def _what(picture: Picture) -> Iterator[RenderableType]:
    wrong = {(one.bus, one.key) for one in picture.wrong}
    for bus in dict.fromkeys(flow.bus for flow in picture.flows):
        yield Text()
        yield Text(bus, style="bold")
        yield _flows([flow for flow in picture.flows if flow.bus == bus], wrong)


def _wrong(picture: Picture) -> Iterator[RenderableType]:
    for one in picture.wrong:
        yield Text(f"✗ {one.key} on {one.bus}: {one.text}", style="red")
    for note in picture.notes:
        yield Text(note, style="yellow")


def _services(services: Sequence[Service]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("service", no_wrap=True, overflow="ellipsis", min_width=7)
    table.add_column("boot", no_wrap=True, overflow="ellipsis", max_width=8)
    for head in ("host", "version"):
        table.add_column(head, no_wrap=True, overflow="ellipsis", max_width=12)
    table.add_column("rev", justify="right", no_wrap=True)
    table.add_column("up", no_wrap=True)
    table.add_column("starts/h", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for service in services:
        for number, cells in enumerate(_rows(service)):
            table.add_row("" if number else service.svc, *cells)
    return table


def _rows(service: Service) -> Iterator[Sequence[str | Text]]:
    if not service.instances:
        known = service.instances is not None
        yield (*["-"] * 6, Text("nobody beats" if known else "-", style="yellow" if known else "dim"))
        return
    for number, one in enumerate(service.instances):
        words = [_state(one)]
        if number == 0 and (service.conflict or (service.replicas or 1) != 1):
            words.append("conflict: " * service.conflict + of_service(service))
        up = "-" if one.up_sec is None else format_duration(round(one.up_sec))
        style = "red" if service.conflict or one.crash_loop else _STATES.get(one.status or "", "")
        facts = (one.boot, one.host, one.version, one.rev)
        yield (
            *("-" if fact is None else str(fact) for fact in facts),
            up,
            "-" if one.restarts_hour is None else str(one.restarts_hour),
            Text("; ".join(words), style=style),
        )


def _state(one: Instance) -> str:
    words = one.status or "-"
    if one.detail:
        words += f": {one.detail}"
    if one.crash_loop:
        words = f"crash loop; {words}"
    if one.skew_sec is not None:
        words += (
            f"; its clock is {format_duration(abs(one.skew_sec))} {'ahead' if one.skew_sec > 0 else 'behind'}"
        )
    return words


def _flows(flows: Sequence[Flow], wrong: set[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("writers", justify="right", overflow="fold")
    for name in ("key", "now", "readers"):
        table.add_column(name, overflow="fold")
    for flow in flows:
        red = "red" if (flow.bus, flow.key) in wrong else ""
        table.add_row(
            "\n".join(f"{svc} →" for svc in flow.writers) or Text("nobody", style=red or "dim"),
            Text(flow.key, style=red),
            Text(of_key(flow), style="dim"),
            "\n".join(map(_reader, flow.readers)) or "",
        )
    return table


def _reader(reader: Reader) -> str:
    words = of_reader(reader)
    return f"→ {reader.svc}" + (f" ({words})" if words else "")
