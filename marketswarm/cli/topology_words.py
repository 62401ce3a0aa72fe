"""What `topology` says of a flow in a few words, the same in a table, in Mermaid and in DOT. Pure."""

from marketswarm.cli.topology_picture import Flow, Reader, Service
from marketswarm.text import format_duration


def of_key(flow: Flow) -> str:
    """`1.2/s, 12003 entries`; empty when nobody knows."""
    if flow.kind == "channel":
        return f"channel, {flow.subscribers or 0} subscribed"
    if flow.kind == "none":
        return "nothing there"
    if flow.kind != "stream":
        return flow.kind or ""
    words = [] if flow.rate is None else [rate(flow.rate)]
    words.append(f"{flow.length} {'entry' if flow.length == 1 else 'entries'}")
    if not flow.rate and flow.last_sec is not None:
        words.append(f"last {format_duration(flow.last_sec)} ago")
    return ", ".join(words)


def of_reader(reader: Reader) -> str:
    """`lag 3, 2 pending, oldest 5 s`; empty for one without a group."""
    if reader.group is None:
        return ""
    words = [f"lag {'?' if reader.lag is None else reader.lag}"]
    if reader.pending:
        words.append(f"{reader.pending} pending")
    if reader.oldest_sec is not None:
        words.append(f"oldest {format_duration(reader.oldest_sec)}")
    return ", ".join(words)


def of_service(service: Service) -> str:
    """`2 of 3 run`; empty when nobody knows."""
    if service.instances is None:
        return ""
    count = len(service.instances)
    if not count:
        return "nobody runs"
    return (
        f"{count} of {service.replicas} run"
        if service.replicas
        else f"{count} {'runs' if count == 1 else 'run'}"
    )


def rate(per_sec: float) -> str:
    """Entries a second, or a minute or an hour when they are few."""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_sec * factor >= 1:
            return f"{per_sec * factor:.1f}".removesuffix(".0") + f"/{unit}"
    return "0/s" if per_sec <= 0 else f"{per_sec * 3600:.1g}/h"
