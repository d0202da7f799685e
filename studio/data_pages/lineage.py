"""The graph around a dataset, laid out in layers from left to right for an SVG that the server draws. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

WIDTH, HEIGHT = 200, 52  # of a node, in pixels
GAP_X, GAP_Y = 52, 16
MARGIN = 12
LETTERS = 24  # of a node's label; the whole is in its title
SWEEPS = 6


@dataclass(frozen=True)
class Node:
    """``kind``: dataset or run. ``note`` is the second line."""

    key: str
    kind: str
    label: str
    url: str = ""
    note: str = ""
    current: bool = False


@dataclass(frozen=True)
class Edge:
    """From what is read to the run that reads it, or from a run to what it wrote."""

    source: str
    target: str


@dataclass
class Placed:
    node: Node
    x: int
    y: int

    @property
    def short(self) -> str:
        label = self.node.label
        return label if len(label) <= LETTERS else label[: LETTERS - 1] + "…"

    @property
    def short_note(self) -> str:
        note = self.node.note
        return note if len(note) <= LETTERS + 6 else note[: LETTERS + 5] + "…"


@dataclass
class Drawing:
    """``lines``: (path of the curve, the edge). ``width`` and ``height`` in pixels."""

    nodes: list[Placed] = field(default_factory=list)
    lines: list[tuple[str, Edge]] = field(default_factory=list)
    width: int = 0
    height: int = 0


def layers_of(nodes: list[Node], edges: list[Edge]) -> dict[str, int]:
    """The layer of every node: one more than the deepest that leads to it. An edge that closes a circle is left out
    (a run that writes a new version under the name it reads is none: versions are nodes of their own)."""
    following: dict[str, list[str]] = defaultdict(list)
    known = {node.key for node in nodes}
    for edge in edges:
        if edge.source in known and edge.target in known and edge.source != edge.target:
            following[edge.source].append(edge.target)
    order = _order([node.key for node in nodes], following)
    position = {key: index for index, key in enumerate(order)}
    layer = dict.fromkeys(order, 0)
    for key in order:
        for target in following[key]:
            if position[target] > position[key]:
                layer[target] = max(layer[target], layer[key] + 1)
    return _pulled(order, following, position, layer)


def _order(keys: list[str], following: dict[str, list[str]]) -> list[str]:
    """Depth first, last finished first: every edge but those of circles leads forward."""
    seen: set[str] = set()
    finished: list[str] = []
    for start in keys:
        stack = [(start, iter(following[start]))] if start not in seen else []
        seen.add(start)
        while stack:
            key, rest = stack[-1]
            below = next((one for one in rest if one not in seen), None)
            if below is None:
                finished.append(key)
                stack.pop()
            else:
                seen.add(below)
                stack.append((below, iter(following[below])))
    return finished[::-1]


def _pulled(
    order: list[str], following: dict[str, list[str]], position: dict[str, int], layer: dict[str, int]
) -> dict[str, int]:
    """Sources stand right before what reads them, not all in the first layer."""
    for key in reversed(order):
        after = [layer[target] for target in following[key] if position[target] > position[key]]
        if after:
            layer[key] = max(layer[key], min(after) - 1)
    return layer


def draw(nodes: list[Node], edges: list[Edge]) -> Drawing:
    """Every node with its place, every edge with its curve."""
    if not nodes:
        return Drawing()
    layer = layers_of(nodes, edges)
    columns: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        columns[layer[node.key]].append(node)
    ordered = _sorted(columns, edges)
    tallest = max(len(column) for column in ordered)
    placed: dict[str, Placed] = {}
    for index, column in enumerate(ordered):
        offset = (tallest - len(column)) * (HEIGHT + GAP_Y) // 2
        for row, node in enumerate(column):
            x = MARGIN + index * (WIDTH + GAP_X)
            placed[node.key] = Placed(node, x, MARGIN + offset + row * (HEIGHT + GAP_Y))
    lines = [
        (_curve(placed[edge.source], placed[edge.target]), edge)
        for edge in edges
        if edge.source in placed and edge.target in placed
    ]
    return Drawing(
        list(placed.values()),
        lines,
        2 * MARGIN + len(ordered) * WIDTH + (len(ordered) - 1) * GAP_X,
        2 * MARGIN + tallest * HEIGHT + (tallest - 1) * GAP_Y,
    )


def _sorted(columns: dict[int, list[Node]], edges: list[Edge]) -> list[list[Node]]:
    """The columns, each sorted by the middle of its neighbours so that few lines cross."""
    ordered = [columns[index] for index in sorted(columns)]
    beside: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        beside[edge.source].append(edge.target)
        beside[edge.target].append(edge.source)
    for sweep in range(SWEEPS):
        places = {node.key: row for column in ordered for row, node in enumerate(column)}
        for column in ordered if sweep % 2 == 0 else reversed(ordered):
            middles = {}
            for node in column:
                rows = [places[key] for key in beside[node.key] if key in places]
                middles[node.key] = sum(rows) / len(rows) if rows else places[node.key]
            column.sort(key=lambda node: middles[node.key])
            places.update({node.key: row for row, node in enumerate(column)})
    return ordered


def _curve(start: Placed, end: Placed) -> str:
    x1, y1 = start.x + WIDTH, start.y + HEIGHT // 2
    x2, y2 = end.x, end.y + HEIGHT // 2
    bend = max(24, (x2 - x1) // 2)
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
