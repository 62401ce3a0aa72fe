"""The flow as text that others draw: Mermaid and DOT. Pure.

Nodes have ids of ours; names stand in quotes, and whatever could end or steer those is spelt out.
"""

from collections.abc import Iterator

from marketswarm.cli.topology_picture import Flow, Picture
from marketswarm.cli.topology_words import of_key, of_reader, of_service, rate

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:,/?-+() ")
_SHAPES = {"channel": ("([", "])"), "stream": ("[(", ")]")}
_DOT_SHAPES = {"channel": "ellipse", "stream": "cylinder"}


def mermaid(picture: Picture) -> str:
    """A flowchart; in Markdown it stands in a block that says `mermaid`."""
    return "\n".join(_mermaid(picture))


def dot(picture: Picture) -> str:
    """A digraph for Graphviz."""
    return "\n".join(_dot(picture))


def _mermaid(picture: Picture) -> Iterator[str]:
    services, keys = _ids(picture)
    yield "flowchart LR"
    for service in picture.services:
        if service.svc in services:
            yield f"  {services[service.svc]}[{_quoted_mermaid(service.svc, of_service(service))}]"
    for number, (bus, flows) in enumerate(_by_bus(picture).items()):
        yield f"  subgraph b{number}[{_quoted_mermaid(bus)}]"
        for flow in flows:
            before, after = _SHAPES.get(flow.kind or "", ("[(", ")]"))
            yield f"    {keys[flow.bus, flow.key]}{before}{_quoted_mermaid(flow.key, of_key(flow))}{after}"
        yield "  end"
    for one, other, words in _arrows(picture, services, keys):
        yield f"  {one} -->{f'|{_quoted_mermaid(words)}|' if words else ''} {other}"
    wrong = _wrong(picture, keys)
    if wrong:
        yield "  classDef wrong stroke:#c00,stroke-width:3px"
        yield f"  class {','.join(wrong)} wrong"


def _dot(picture: Picture) -> Iterator[str]:
    services, keys = _ids(picture)
    wrong = _wrong(picture, keys)
    yield "digraph marketswarm {"
    yield "  rankdir=LR;"
    for service in picture.services:
        if service.svc in services:
            label = _quoted_dot(service.svc, of_service(service))
            yield f"  {services[service.svc]} [shape=box, label={label}];"
    for number, (bus, flows) in enumerate(_by_bus(picture).items()):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label={_quoted_dot(bus)};"
        for flow in flows:
            node = keys[flow.bus, flow.key]
            shape = _DOT_SHAPES.get(flow.kind or "", "cylinder")
            red = ", color=red, penwidth=3" if node in wrong else ""
            yield f"    {node} [shape={shape}, label={_quoted_dot(flow.key, of_key(flow))}{red}];"
        yield "  }"
    for one, other, words in _arrows(picture, services, keys):
        yield f"  {one} -> {other}{f' [label={_quoted_dot(words)}]' if words else ''};"
    yield "}"


def _ids(picture: Picture) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Ids of the services that write or read something, and of the keys."""
    busy = {svc for flow in picture.flows for svc in (*flow.writers, *(one.svc for one in flow.readers))}
    services = [service.svc for service in picture.services if service.svc in busy]
    return (
        {svc: f"s{number}" for number, svc in enumerate(services)},
        {(flow.bus, flow.key): f"k{number}" for number, flow in enumerate(picture.flows)},
    )


def _by_bus(picture: Picture) -> dict[str, list[Flow]]:
    found: dict[str, list[Flow]] = {}
    for flow in picture.flows:
        found.setdefault(flow.bus, []).append(flow)
    return found


def _arrows(
    picture: Picture, services: dict[str, str], keys: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str, str]]:
    for flow in picture.flows:
        node = keys[flow.bus, flow.key]
        speed = "" if flow.rate is None else rate(flow.rate)
        yield from ((services[svc], node, speed) for svc in flow.writers)
        yield from ((node, services[one.svc], of_reader(one)) for one in flow.readers)


def _wrong(picture: Picture, keys: dict[tuple[str, str], str]) -> list[str]:
    return list(dict.fromkeys(keys[one.bus, one.key] for one in picture.wrong if (one.bus, one.key) in keys))


def _quoted_mermaid(*lines: str) -> str:
    spelt = ("".join(c if c in _PLAIN else f"#{ord(c)};" for c in line) for line in lines if line)
    return f'"{"<br/>".join(spelt)}"'


def _quoted_dot(*lines: str) -> str:
    # Graphviz reads entities of HTML, too
    spelt = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return '"' + "\\n".join(spelt) + '"'
