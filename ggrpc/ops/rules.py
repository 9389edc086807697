"""Rules and shapes that the contracts of several families have in common.

A source is named by its place in ggml's order, the result by RESULT; an axis is a
source and one of its dimensions. A rule says nothing about a source that is absent.
"""

from __future__ import annotations

from collections.abc import Callable

from ggrpc.ops.contract import Node, Rule, Shape, contract_of
from ggrpc.tensor import Dims, Tensor
from ggrpc.types import GGMLType

RESULT = -1
ANY = frozenset(GGMLType)
F32 = frozenset({GGMLType.F32})
I32 = frozenset({GGMLType.I32})

# Elements of a window that slides over something, each of which costs a call. Models
# have hundreds of them, and some tens of thousands to pool a whole image.
MAX_TAPS = 1 << 18

Axis = tuple[int, int]


def own(node: Node) -> Dims:
    """The shape of a result that is free to choose it."""
    return node.tensor.ne


def like(at: int) -> Shape:
    """The shape of a source."""
    return lambda node: node.source(at).ne


def can_repeat(small: Tensor, large: Tensor) -> bool:
    """Whether a whole number of the one, in each dimension, fills the other.

    Source: ggml_can_repeat.
    """
    if not small.nelements:
        return not large.nelements
    return not any(n % d for n, d in zip(large.ne, small.ne, strict=True))


def _tensor_rule(
    words: str, holds: Callable[[Tensor, Tensor], bool]
) -> Callable[[int, int], Rule]:
    """A rule between two tensors, still to be told which."""

    def make(first: int, second: int) -> Rule:
        def rule(node: Node) -> str | None:
            a, b = _tensor(node, first), _tensor(node, second)
            if a is None or b is None or holds(a, b):
                return None
            return f"{_name(node, first)} must {words} {_name(node, second)}"

        return rule

    return make


same_elements = _tensor_rule(
    "have as many elements as", lambda a, b: a.nelements == b.nelements
)
same_shape = _tensor_rule("have the shape of", lambda a, b: a.ne == b.ne)
same_type = _tensor_rule("have the type of", lambda a, b: a.type == b.type)
repeats = _tensor_rule("repeat into", can_repeat)


def _axis_rule(
    words: str, holds: Callable[[int, int], bool]
) -> Callable[[Axis, Axis], Rule]:
    """A rule between two axes, still to be told which."""

    def make(first: Axis, second: Axis) -> Rule:
        def rule(node: Node) -> str | None:
            a, b = _tensor(node, first[0]), _tensor(node, second[0])
            if a is None or b is None or holds(a.ne[first[1]], b.ne[second[1]]):
                return None
            return (
                f"{_name(node, first[0])}.ne[{first[1]}] is {a.ne[first[1]]}, must "
                f"{words} {_name(node, second[0])}.ne[{second[1]}], {b.ne[second[1]]}"
            )

        return rule

    return make


equal = _axis_rule("equal", lambda a, b: a == b)
multiple = _axis_rule("be a multiple of", lambda a, b: not (a % b if b else a))
at_least = _axis_rule("be at least", lambda a, b: a >= b)


def not_empty(at: int) -> Rule:
    """There is something to read, where the result has any elements."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, at)
        if tensor is None or tensor.nelements or not node.tensor.nelements:
            return None
        return f"{_name(node, at)} must not be empty"

    return rule


def dense_rows(at: int) -> Rule:
    """The elements of a row lie side by side (nb[0] is the size of one)."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, at)
        if tensor is None or tensor.nb[0] == tensor.type.type_size:
            return None
        return f"{_name(node, at)} must have rows without gaps"

    return rule


def shaped(at: int, expected: Shape) -> Rule:
    """A tensor has the shape that the others give it."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, at)
        if tensor is None or tensor.ne == (ne := expected(node)):
            return None
        return f"{_name(node, at)}'s ne is {list(tensor.ne)}, must be {list(ne)}"

    return rule


def contiguous(at: int) -> Rule:
    """The elements lie one after the other, in order, without gaps."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, at)
        if tensor is None or tensor.is_contiguous:
            return None
        return f"{_name(node, at)} must be contiguous"

    return rule


def _tensor(node: Node, at: int) -> Tensor | None:
    return node.tensor if at == RESULT else node.src[at]


def _name(node: Node, at: int) -> str:
    if at == RESULT:
        return "the result"
    return contract_of(node.tensor.op).sources[at].name
