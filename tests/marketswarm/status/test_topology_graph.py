"""Mermaid and DOT are read back by a small reader of each language: what it takes, theirs does."""

import html
import json
import re

import pytest

from marketswarm.status.topology_graph import build_graph, format_dot, format_mermaid
from marketswarm.status.topology_view import MeshSnapshot, build_topology
from marketswarm.truth import parse_truth

HOSTILE = [
    'a"b',
    "a\\",
    '\\"];evil[label="',
    "a]b[c(d)e{f}",
    "a|b",
    "--&gt;<script>alert(1)</script>",
    "#quot;#34;",
    "%%{init:{}}%%",
    "`md`**b**",
    "end",
    "graph;subgraph",
    "\\N\\G\\l",
    "ключ→日本",
    "click",
    "x" * 200,
]


def graph(*keys, moving=None):
    points = [{"bus": "market-redis", "key": key} for key in keys]
    document = {
        "services": {
            "a.b-c": {"access_points": {"publish_to": points}},
            "end": {"access_points": {"subscribe_to": points}},
            "idle": {},
        }
    }
    flow = MeshSnapshot(moving, 1.0) if moving else MeshSnapshot()
    truth = parse_truth(json.dumps(document).encode()).truth
    return build_graph(build_topology(truth, 1, MeshSnapshot(), flow))


TOKEN = re.compile(r'\s+|"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_]*|\d+|->|[{}\[\];,=]')


class Digraph:
    """Nodes by id with their labels, and edges; fails at what Graphviz' grammar has no place for."""

    def __init__(self, text):
        self.nodes, self.edges, self.tokens = {}, [], list(self.tokenized(text))
        self.take("digraph")
        self.take("marketswarm")
        self.statements()
        assert self.tokens == []
        assert {end for edge in self.edges for end in edge[:2]} <= set(self.nodes)

    def tokenized(self, text):
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            assert match, f"no token of DOT at {text[at : at + 40]!r}"
            at = match.end()
            if not match[0].isspace():
                yield match[0]

    def take(self, wanted=None):
        token = self.tokens.pop(0)
        assert wanted is None or token == wanted, (token, wanted)
        return token

    def attributes(self):
        found = {}
        if self.tokens[0] == "[":
            while self.take() != "]":
                name = self.take()
                self.take("=")
                found[name] = self.take()
        return found

    def statements(self):
        self.take("{")
        while self.tokens[0] != "}":
            if self.tokens[0] == "subgraph":
                self.take()
                assert self.take().startswith("cluster_")
                self.statements()
            else:
                self.statement(self.take())
                self.take(";")
        self.take("}")

    def statement(self, name):
        if self.tokens[0] == "=":
            self.take()
            self.take()
        elif self.tokens[0] == "->":
            self.take()
            self.edges.append((name, self.take(), self.attributes().get("label")))
        else:
            assert re.fullmatch(r"[sk]\d+", name)
            self.nodes[name] = self.attributes()["label"]


def read_dot(text):
    found = Digraph(text)
    return found.nodes, found.edges


QUOTED = r'"((?:[^"#]|#\d+;)*)"'
NODE = re.compile(rf"([sk]\d+)(?:\[{QUOTED}\]|\[\({QUOTED}\)\]|\(\[{QUOTED}\]\))")
EDGE = re.compile(rf"([sk]\d+) -->(?:\|{QUOTED}\|)? ([sk]\d+)")


def read_mermaid(text):
    """As above, of the part of Mermaid that is used."""
    head, *lines = text.splitlines()
    assert head == "flowchart LR"
    nodes, edges, depth = {}, [], 0
    for line in map(str.strip, lines):
        if node := NODE.fullmatch(line):
            nodes[node[1]] = next(filter(None, node.groups()[1:]))
        elif edge := EDGE.fullmatch(line):
            edges.append((edge[1], edge[3], edge[2]))
        elif re.fullmatch(rf"subgraph b\d+\[{QUOTED}\]", line):
            depth += 1
        elif line == "end":
            depth -= 1
        else:
            assert re.fullmatch(r"classDef wrong [\w:#,-]+|class [k\d,]+ wrong", line), line
    assert depth == 0
    assert {end for edge in edges for end in edge[:2]} <= set(nodes)
    return nodes, edges


def spelt(label):
    """What Mermaid makes of its entities."""
    return re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label)


def unquoted(label):
    """What Graphviz makes of a quoted label without escapes of its own."""
    assert not re.search(r"(?<!\\)(?:\\\\)*\\[^\\\"n]", label), "an escape that Graphviz would read"
    return html.unescape(re.sub(r"\\(.)", r"\1", label[1:-1]))


@pytest.mark.parametrize("key", HOSTILE)
def test_a_name_is_a_name_whatever_stands_in_it(key):
    found = graph(key)
    nodes, edges = read_dot("\n".join(format_dot(found)))
    assert {unquoted(label) for label in nodes.values()} == {"a.b-c", "end", key}
    assert edges == [("s0", "k0", None), ("k0", "s1", None)]
    nodes, edges = read_mermaid("\n".join(format_mermaid(found)))
    assert {spelt(label) for label in nodes.values()} == {"a.b-c", "end", key}
    assert edges == [("s0", "k0", None), ("k0", "s1", None)]


def test_rates_lags_and_faults_are_drawn():
    at = {"bus": "market-redis", "key": "k"}
    moving = {
        "keys": [{**at, "kind": "stream", "length": 2, "rate": 1.5}],
        "edges": [{**at, "svc": "end", "does": "reads", "group": "g", "lag": 3}],
        "faults": [{**at, "what": "no_group", "text": "why"}],
    }
    found = graph("k", "other", moving=moving)
    nodes, edges = read_mermaid("\n".join(format_mermaid(found)))
    assert nodes["k0"] == "k<br/>1.5/s, 2 entries"
    assert ("s0", "k0", "1.5/s") in edges
    assert ("k0", "s1", "lag 3") in edges
    assert "  class k0 wrong" in "\n".join(format_mermaid(found))
    nodes, edges = read_dot("\n".join(format_dot(found)))
    assert nodes["k0"] == '"k\\n1.5/s, 2 entries"'
    assert ("k0", "s1", '"lag 3"') in edges
    assert "\n".join(format_dot(found)).count("color=red") == 1


def test_a_channel_has_a_shape_of_its_own():
    at = {"bus": "market-redis", "kind": "channel", "subscribers": 2}
    found = graph("k", "other", moving={"keys": [{**at, "key": "k"}]})
    assert 'k0(["k<br/>channel, 2 subscribed"])' in "\n".join(format_mermaid(found))
    assert 'k1[("other")]' in "\n".join(format_mermaid(found))
    dot = "\n".join(format_dot(found))
    assert "k0 [shape=ellipse" in dot
    assert "k1 [shape=cylinder" in dot


def test_who_neither_writes_nor_reads_is_not_in_the_flow():
    assert "idle" not in "\n".join(format_mermaid(graph("k"))) + "\n".join(format_dot(graph("k")))


def test_a_truth_without_any_flow_is_a_graph_all_the_same():
    assert read_mermaid("\n".join(format_mermaid(graph()))) == ({}, [])
    assert read_dot("\n".join(format_dot(graph()))) == ({}, [])


def test_the_readers_fail_at_what_is_wrong():
    with pytest.raises(AssertionError):
        read_dot('digraph marketswarm { k0 [label="a"b"]; }')
    with pytest.raises(AssertionError):
        read_dot("digraph marketswarm { k0 -> k1; }")
    with pytest.raises(AssertionError):
        read_mermaid('flowchart LR\n  k0[("a"b")]')
