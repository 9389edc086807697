"""Draws graphs in DOT, Mermaid and SVG."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from ggrpc.engine.inspection.graphs import name_of_op
from ggrpc.errors import ConfigError
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor
from ggrpc.untrusted import printable


def dot(graph: Graph) -> str:
    """The graph in DOT, the language of graphviz."""
    lines = [
        f'  t{number} [label="{_escaped(label)}"{"" if computed else ", shape=box"}];'
        for number, label, computed in _boxes(graph)
    ]
    lines += [f"  t{source} -> t{result};" for source, result in _arrows(graph)]
    return "digraph graph_ {\n" + "\n".join(lines) + "\n}\n"


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    lines = []
    for number, label, computed in _boxes(graph):
        text = label.replace('"', "#quot;").replace("\n", "<br>")
        lines.append(f'  t{number}("{text}")' if computed else f'  t{number}["{text}"]')
    lines += [f"  t{source} --> t{result}" for source, result in _arrows(graph)]
    return "flowchart TD\n" + "\n".join(lines) + "\n"


def svg(graph: Graph) -> str:
    """The graph as SVG.

    Raises:
        ConfigError: graphviz is not installed, or fails.
    """
    try:
        drawn = subprocess.run(
            ["dot", "-Tsvg"], input=dot(graph), capture_output=True, text=True
        )
    except FileNotFoundError:
        raise ConfigError(
            "SVG needs the command 'dot' of graphviz, which is not installed: install "
            "graphviz, or use --format dot or mermaid"
        ) from None
    if drawn.returncode:
        raise ConfigError(f"graphviz failed: {drawn.stderr.strip()}")
    return drawn.stdout


def _boxes(graph: Graph) -> Iterator[tuple[int, str, bool]]:
    """For each tensor in use: its number, its label, and whether it is computed."""
    ops = {node.tensor.id: name_of_op(node) for node in graph.nodes}
    used = {s.id for node in graph.nodes for s in node.src if s} | ops.keys()
    for number, tensor in enumerate(graph.tensors.values()):
        if tensor.id in used:
            yield number, _label(tensor, ops.get(tensor.id)), tensor.id in ops


def _label(tensor: Tensor, op: str | None) -> str:
    shape = f"{tensor.type.name} {'x'.join(map(str, tensor.ne))}"
    return "\n".join(filter(None, (op, printable(tensor.name), shape)))


def _arrows(graph: Graph) -> Iterator[tuple[int, int]]:
    """For each source of each node: the numbers of the source and of the result."""
    numbers = {id: number for number, id in enumerate(graph.tensors)}
    for node in graph.nodes:
        for source in filter(None, node.src):
            yield numbers[source.id], numbers[node.tensor.id]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
