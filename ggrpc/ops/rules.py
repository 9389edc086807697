"""Rules and shapes that several families of ops use in their contracts.

A tensor is given as its index among the sources in ggml's order, or as RESULT. An axis
is a tensor and one of its dimensions. A rule accepts a source that is absent.
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

# The maximum number of elements of a sliding window; each costs a call. The windows of
# models have hundreds, or tens of thousands to pool a whole image.
MAX_TAPS = 1 << 18

Axis = tuple[int, int]


def _ne(tensor: Tensor) -> list[int]:
    return list(tensor.ne)


def any_shape(node: Node) -> Dims:
    """The shape of a result that does not follow from the sources."""
    return node.tensor.ne


def like(index: int) -> Shape:
    """The shape of a source."""
    return lambda node: node.source(index).ne


def can_repeat(small: Tensor, large: Tensor) -> bool:
    """Whether each dimension of `large` is a multiple of that of `small`.

    Source: ggml_can_repeat.
    """
    if not small.nelements:
        return not large.nelements
    return not any(n % d for n, d in zip(large.ne, small.ne, strict=True))


def _tensor_rule(
    words: str,
    holds: Callable[[Tensor, Tensor], bool],
    show: Callable[[Tensor], object],
) -> Callable[[int, int], Rule]:
    """A maker of rules between two tensors.

    Args:
        words: what the first tensor must do, before the name of the second.
        holds: whether the rule holds.
        show: the property of a tensor that the message gives.
    """

    def make(first: int, second: int) -> Rule:
        def rule(node: Node) -> str | None:
            a, b = _tensor(node, first), _tensor(node, second)
            if a is None or b is None or holds(a, b):
                return None
            other = _name(node, second)
            return f"{_name(node, first)} must {words} {other}: {show(a)} and {show(b)}"

        return rule

    return make


same_elements = _tensor_rule(
    "have as many elements as",
    lambda a, b: a.nelements == b.nelements,
    lambda tensor: tensor.nelements,
)
same_shape = _tensor_rule("have the shape of", lambda a, b: a.ne == b.ne, _ne)
same_type = _tensor_rule(
    "have the type of", lambda a, b: a.type == b.type, lambda tensor: tensor.type.name
)
repeats = _tensor_rule("repeat into", can_repeat, _ne)


def _axis_rule(
    words: str, holds: Callable[[int, int], bool]
) -> Callable[[Axis, Axis], Rule]:
    """A maker of rules between two axes."""

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


def not_empty(index: int) -> Rule:
    """The rule that a tensor has elements, unless the result has none."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, index)
        if tensor is None or tensor.nelements or not node.tensor.nelements:
            return None
        return f"{_name(node, index)}'s ne is {_ne(tensor)}, must not be empty"

    return rule


def dense_rows(index: int) -> Rule:
    """The rule that the elements of a row have no gaps between them."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, index)
        if tensor is None or tensor.nb[0] == (size := tensor.type.type_size):
            return None
        name = _name(node, index)
        return f"{name}.nb[0] is {tensor.nb[0]}, must be {size}: rows without gaps"

    return rule


def has_shape(index: int, expected: Shape) -> Rule:
    """The rule that a tensor has the shape that `expected` computes."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, index)
        if tensor is None or tensor.ne == (ne := expected(node)):
            return None
        return f"{_name(node, index)}'s ne is {_ne(tensor)}, must be {list(ne)}"

    return rule


def contiguous(index: int) -> Rule:
    """The rule that a tensor is contiguous: elements in order, without gaps."""

    def rule(node: Node) -> str | None:
        tensor = _tensor(node, index)
        if tensor is None or tensor.is_contiguous:
            return None
        where = f"ne {_ne(tensor)}, nb {list(tensor.nb)}"
        return f"{_name(node, index)} must be contiguous: {where}"

    return rule


def _tensor(node: Node, index: int) -> Tensor | None:
    return node.tensor if index == RESULT else node.src[index]


def _name(node: Node, index: int) -> str:
    if index == RESULT:
        return "the result"
    return contract_of(node.tensor.op).sources[index].name
