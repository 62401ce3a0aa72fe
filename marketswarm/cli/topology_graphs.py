"""The topology as text that other programs draw: a Mermaid flowchart and a Graphviz digraph. Pure.

Nodes have ids of our own. Names stand in quotes, and each character that could end a quote is escaped.
"""

from collections.abc import Iterator

from marketswarm.cli.topology_view import (
    FlowView,
    Topology,
    describe_instances,
    describe_key,
    describe_reader,
    format_rate,
)

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:,/?-+() ")
_SHAPES = {"channel": ("([", "])"), "stream": ("[(", ")]")}
_DOT_SHAPES = {"channel": "ellipse", "stream": "cylinder"}


def to_mermaid(topology: Topology) -> str:
    """Return a Mermaid flowchart; in Markdown it goes into a block that says `mermaid`."""
    return "\n".join(_mermaid_lines(topology))


def to_dot(topology: Topology) -> str:
    """Return a digraph for Graphviz."""
    return "\n".join(_dot_lines(topology))


def _mermaid_lines(topology: Topology) -> Iterator[str]:
    services, keys = _ids(topology)
    yield "flowchart LR"
    for service in topology.services:
        if service.svc in services:
            yield f"  {services[service.svc]}[{_quote_mermaid(service.svc, describe_instances(service))}]"
    for number, (bus, flows) in enumerate(_by_bus(topology).items()):
        yield f"  subgraph b{number}[{_quote_mermaid(bus)}]"
        for flow in flows:
            before, after = _SHAPES.get(flow.kind or "", ("[(", ")]"))
            label = _quote_mermaid(flow.key, describe_key(flow))
            yield f"    {keys[flow.bus, flow.key]}{before}{label}{after}"
        yield "  end"
    for start, end, words in _edges(topology, services, keys):
        yield f"  {start} -->{f'|{_quote_mermaid(words)}|' if words else ''} {end}"
    wrong = _problem_nodes(topology, keys)
    if wrong:
        yield "  classDef wrong stroke:#c00,stroke-width:3px"
        yield f"  class {','.join(wrong)} wrong"


def _dot_lines(topology: Topology) -> Iterator[str]:
    services, keys = _ids(topology)
    wrong = _problem_nodes(topology, keys)
    yield "digraph marketswarm {"
    yield "  rankdir=LR;"
    for service in topology.services:
        if service.svc in services:
            label = _quote_dot(service.svc, describe_instances(service))
            yield f"  {services[service.svc]} [shape=box, label={label}];"
    for number, (bus, flows) in enumerate(_by_bus(topology).items()):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label={_quote_dot(bus)};"
        for flow in flows:
            node = keys[flow.bus, flow.key]
            shape = _DOT_SHAPES.get(flow.kind or "", "cylinder")
            red = ", color=red, penwidth=3" if node in wrong else ""
            yield f"    {node} [shape={shape}, label={_quote_dot(flow.key, describe_key(flow))}{red}];"
        yield "  }"
    for start, end, words in _edges(topology, services, keys):
        yield f"  {start} -> {end}{f' [label={_quote_dot(words)}]' if words else ''};"
    yield "}"


def _ids(topology: Topology) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Return the ids of the services that write or read something, and those of the keys."""
    busy = {svc for flow in topology.flows for svc in (*flow.writers, *(one.svc for one in flow.readers))}
    services = [service.svc for service in topology.services if service.svc in busy]
    return (
        {svc: f"s{number}" for number, svc in enumerate(services)},
        {(flow.bus, flow.key): f"k{number}" for number, flow in enumerate(topology.flows)},
    )


def _by_bus(topology: Topology) -> dict[str, list[FlowView]]:
    found: dict[str, list[FlowView]] = {}
    for flow in topology.flows:
        found.setdefault(flow.bus, []).append(flow)
    return found


def _edges(
    topology: Topology, services: dict[str, str], keys: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str, str]]:
    for flow in topology.flows:
        node = keys[flow.bus, flow.key]
        speed = "" if flow.rate is None else format_rate(flow.rate)
        yield from ((services[svc], node, speed) for svc in flow.writers)
        yield from ((node, services[one.svc], describe_reader(one)) for one in flow.readers)


def _problem_nodes(topology: Topology, keys: dict[tuple[str, str], str]) -> list[str]:
    return list(dict.fromkeys(keys[one.bus, one.key] for one in topology.wrong if (one.bus, one.key) in keys))


def _quote_mermaid(*lines: str) -> str:
    parts = ("".join(c if c in _PLAIN else f"#{ord(c)};" for c in line) for line in lines if line)
    return f'"{"<br/>".join(parts)}"'


def _quote_dot(*lines: str) -> str:
    # Graphviz reads entities of HTML, too
    parts = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return '"' + "\\n".join(parts) + '"'
