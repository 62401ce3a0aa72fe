"""Make a graph of what flows, and write it as text that another program draws. Pure.

That is a Mermaid flowchart or a digraph of Graphviz. Nodes have ids of our own; names stand in quotes, and
each character that could end a quote is escaped. The board draws the same graph itself.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.status.topology_view import FlowView, TopologyView, format_rate

_PLAIN_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:,/?-+() "
)


@dataclass(frozen=True, slots=True)
class Node:
    """A service, or a key with its `flow`; `words` say how it is."""

    id: str
    name: str
    words: str
    flow: FlowView | None = None
    is_wrong: bool = False

    @property
    def is_channel(self) -> bool:
        return self.flow is not None and self.flow.kind == "channel"


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow from one node to another, by their ids, and what stands beside it."""

    start: str
    end: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """The services that write or read, the keys by their bus, and arrows from writers to keys to readers."""

    services: Sequence[Node]
    keys: Mapping[str, Sequence[Node]]
    arrows: Sequence[Arrow]


def build_graph(topology: TopologyView) -> Graph:
    flows, wrong = topology.flows, topology.problems
    busy = {svc for flow in flows for svc in (*flow.writers, *(one.svc for one in flow.readers))}
    known = [one for one in topology.services if one.svc in busy]
    services = {one.svc: Node(f"s{number}", one.svc, one.words) for number, one in enumerate(known)}
    keys: dict[str, list[Node]] = defaultdict(list)
    arrows: list[Arrow] = []
    for number, flow in enumerate(flows):
        node = Node(f"k{number}", flow.key, flow.words, flow, (flow.bus, flow.key) in wrong)
        keys[flow.bus].append(node)
        speed = "" if flow.rate is None else format_rate(flow.rate)
        arrows += [Arrow(services[svc].id, node.id, speed) for svc in flow.writers]
        arrows += [Arrow(node.id, services[one.svc].id, one.words) for one in flow.readers]
    return Graph(tuple(services.values()), keys, arrows)


def format_mermaid(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    for node in graph.services:
        yield f"  {node.id}[{_quote_mermaid(node.name, node.words)}]"
    for number, (bus, nodes) in enumerate(graph.keys.items()):
        yield f"  subgraph b{number}[{_quote_mermaid(bus)}]"
        for node in nodes:
            before, after = ("([", "])") if node.is_channel else ("[(", ")]")
            yield f"    {node.id}{before}{_quote_mermaid(node.name, node.words)}{after}"
        yield "  end"
    for one in graph.arrows:
        yield f"  {one.start} -->{f'|{_quote_mermaid(one.words)}|' if one.words else ''} {one.end}"
    wrong = [node.id for nodes in graph.keys.values() for node in nodes if node.is_wrong]
    if wrong:
        yield "  classDef wrong stroke:#c00,stroke-width:3px"
        yield f"  class {','.join(wrong)} wrong"


def format_dot(graph: Graph) -> Iterator[str]:
    yield "digraph marketswarm {"
    yield "  rankdir=LR;"
    for node in graph.services:
        yield f"  {node.id} [shape=box, label={_quote_dot(node.name, node.words)}];"
    for number, (bus, nodes) in enumerate(graph.keys.items()):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label={_quote_dot(bus)};"
        for node in nodes:
            shape = "ellipse" if node.is_channel else "cylinder"
            red = ", color=red, penwidth=3" if node.is_wrong else ""
            yield f"    {node.id} [shape={shape}, label={_quote_dot(node.name, node.words)}{red}];"
        yield "  }"
    for one in graph.arrows:
        yield f"  {one.start} -> {one.end}{f' [label={_quote_dot(one.words)}]' if one.words else ''};"
    yield "}"


def _quote_mermaid(*lines: str) -> str:
    parts = ("".join(c if c in _PLAIN_CHARACTERS else f"#{ord(c)};" for c in line) for line in lines if line)
    return f'"{"<br/>".join(parts)}"'


def _quote_dot(*lines: str) -> str:
    # Graphviz reads entities of HTML, too
    parts = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return '"' + "\\n".join(parts) + '"'
