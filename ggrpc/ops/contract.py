"""The contract of an op (sources, parameters, rules, result), and the check of a node.

Graph validation, the graph builder and `ggrpc inspect` read the contracts. The kernels
are in `ggrpc.devices`, in files of the same names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, get_type_hints

from ggrpc.errors import GraphError
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.tensor import OP_PARAMS_BYTES, Dims, Tensor
from ggrpc.types import GGMLType, type_names


class NoParams(NamedTuple):
    """The parameters of an op that has none."""


class Node(NamedTuple):
    """A tensor to compute, its sources (None if absent) and its decoded parameters."""

    tensor: Tensor
    src: tuple[Tensor | None, ...]
    params: Any

    @classmethod
    def of(cls, tensor: Tensor, src: Sequence[Tensor | None]) -> Node:
        """Make a node and decode its parameters with the contract of its op.

        Raises:
            GraphError: ggrpc does not support the op.
        """
        params = contract_of(tensor.op).unpack_params(tensor.op_params)
        return cls(tensor, tuple(src), params)

    def source(self, index: int) -> Tensor:
        """A source that the contract requires.

        Raises:
            GraphError: the source is missing.
        """
        tensor = self.src[index]
        if tensor is None:
            raise GraphError(f"{self.tensor}: source {index} is missing")
        return tensor

    @property
    def reads(self) -> Iterator[Tensor]:
        """The sources whose values the op reads."""
        sources = contract_of(self.tensor.op).sources
        for tensor, source in zip(self.src, sources, strict=False):
            if tensor is not None and not source.target:
                yield tensor

    @property
    def operations(self) -> Iterator[Op | UnaryOp | GluOp]:
        """The op, and its sub-operation if it has several."""
        yield self.tensor.op
        if self.tensor.op is Op.UNARY:
            yield UnaryOp(self.params.op)
        elif self.tensor.op is Op.GLU:
            yield GluOp(self.params.op)


@dataclass(frozen=True, slots=True)
class Source:
    """One source of an op.

    Attributes:
        name: the name of the argument of ggml's constructor.
        types: the types that are allowed.
        optional: whether the source may be absent.
        index: whether the op reads the values as indices.
        target: whether the op only writes to it: the result is a view of it.
    """

    name: str
    types: frozenset[GGMLType]
    optional: bool = False
    index: bool = False
    target: bool = False


def flops_per_element(count: int) -> Callable[[Node], int]:
    """A cost of `count` operations for each element of the result."""
    return lambda node: count * node.tensor.nelements


one_flop_per_element = flops_per_element(1)

Rule = Callable[[Node], str | None]  # returns what is wrong, or None
Shape = Callable[[Node], Dims]


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract of one op.

    Attributes:
        op: the op.
        sources: the sources in ggml's order.
        result: the types that the result may have.
        ne: computes the dimensions of the result from sources and parameters.
        params: a NamedTuple of int and float fields, stored one after the other in
            op_params, 4 bytes each.
        rules: further conditions on types, shapes and parameters. A rule returns what
            is wrong, or None.
        placed: a condition on the addresses of result and sources, or None.
        computes: False for a view, which describes existing bytes.
        flops: the floating-point operations of a node. A multiply-add counts as two, a
            function as one, a copy as none.
    """

    op: Op
    sources: tuple[Source, ...]
    result: frozenset[GGMLType]
    ne: Shape
    params: type = NoParams
    rules: tuple[Rule, ...] = ()
    placed: Rule | None = None
    computes: bool = True
    flops: Callable[[Node], int] = one_flop_per_element

    def unpack_params(self, op_params: bytes) -> Any:
        """Decode op_params."""
        return self.params._make(  # type: ignore[attr-defined]
            params_layout(self.params).unpack_from(op_params)
        )

    def pack_params(self, params: Any) -> bytes:
        """Encode op_params: the inverse of `unpack_params`."""
        packed = params_layout(self.params).pack(*params)
        return packed.ljust(OP_PARAMS_BYTES, b"\0")

    def used(self, src: tuple[int, ...]) -> tuple[int, ...]:
        """The ids in the slots that the op has; 0 for an absent source.

        If a slot beyond these is used, all ids are returned, and `check` will reject
        the node.
        """
        used = src[: len(self.sources)]
        return src if any(src[len(used) :]) else used

    def check(self, node: Node) -> None:
        """Check the types, shapes and parameters of a node.

        Raises:
            GraphError: the node breaks the contract; the message names the node, its op
                and the rule.
        """
        _raise_if(self._violation(node), node)

    def check_placed(self, node: Node) -> None:
        """Check the addresses of a node and its sources.

        Raises:
            GraphError: the node breaks the rule `placed`.
        """
        _raise_if(self.placed and self.placed(node), node)

    def _violation(self, node: Node) -> str | None:
        for tensor, source in zip(node.src, self.sources, strict=False):
            if tensor is None:
                if not source.optional:
                    return f"source {source.name} is missing"
            elif tensor.type not in source.types:
                return _wrong_type(f"source {source.name}", tensor, source.types)
        if any(node.src[len(self.sources) :]):
            count = max(i for i, tensor in enumerate(node.src, 1) if tensor)
            most = len(self.sources)
            return f"has a source in slot {count}, must have at most {most} sources"
        if node.tensor.type not in self.result:
            return _wrong_type("the result", node.tensor, self.result)
        for rule in self.rules:
            if violation := rule(node):
                return violation
        ne = self.ne(node)
        if node.tensor.ne != ne:
            return f"the result's ne is {list(node.tensor.ne)}, must be {list(ne)}"
        return None


def _wrong_type(name: str, tensor: Tensor, allowed: frozenset[GGMLType]) -> str:
    choice = "one of " if len(allowed) > 1 else ""
    return f"{name} is {tensor.type.name}, must be {choice}{type_names(allowed)}"


def _raise_if(violation: str | None, node: Node) -> None:
    if violation:
        raise GraphError(f"{node.tensor}: {violation}")


@cache
def params_layout(params: type) -> struct.Struct:
    """The layout in op_params of a NamedTuple of ints and floats."""
    codes = {int: "i", float: "f"}
    return struct.Struct(
        "<" + "".join(codes[kind] for kind in get_type_hints(params).values())
    )


CONTRACTS: dict[Op, Contract] = {}


def define(*contracts: Contract) -> None:
    """Register contracts; each family's file calls this once."""
    for contract in contracts:
        CONTRACTS[contract.op] = contract


def contract_of(op: Op) -> Contract:
    """The contract of an op.

    Raises:
        GraphError: ggrpc does not support the op.
    """
    contract = CONTRACTS.get(op)
    if contract is None:
        raise GraphError(f"ggrpc does not support the op {op.name}")
    return contract
