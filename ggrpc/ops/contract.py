"""What an op family's file states about each of its ops, and the check against it.

A contract is read by validation, and by whatever else must know an op without running
it. What computes it lives under `ggrpc.devices`, in files of the same name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, get_type_hints

from ggrpc.errors import GraphError
from ggrpc.op import Op
from ggrpc.tensor import OP_PARAMS_BYTES, Dims, Tensor
from ggrpc.types import GGMLType


class NoParams(NamedTuple):
    """For ops that take no parameters."""


class Node(NamedTuple):
    """A tensor to compute, its sources (None for absent ones) and its parameters."""

    tensor: Tensor
    src: tuple[Tensor | None, ...]
    params: Any

    @classmethod
    def of(cls, tensor: Tensor, src: Sequence[Tensor | None]) -> Node:
        """Put a node together, its parameters decoded as its op's contract says.

        Raises:
            GraphError: ggrpc has no contract for the op.
        """
        params = contract_of(tensor.op).unpack_params(tensor.op_params)
        return cls(tensor, tuple(src), params)

    def source(self, at: int) -> Tensor:
        """A source that the contract requires, so that it is there."""
        tensor = self.src[at]
        if tensor is None:
            raise GraphError(f"{self.tensor}: source {at} is missing")
        return tensor

    @property
    def reads(self) -> Iterator[Tensor]:
        """The sources whose values it reads."""
        sources = contract_of(self.tensor.op).sources
        for tensor, source in zip(self.src, sources, strict=False):
            if tensor is not None and not source.target:
                yield tensor


@dataclass(frozen=True, slots=True)
class Source:
    """One source of an op.

    Attributes:
        name: what ggml's constructor calls it.
        types: the types that it may have.
        optional: whether it may be absent.
        index: whether the op reads its values as indices.
        target: whether it only says where the result goes.
    """

    name: str
    types: frozenset[GGMLType]
    optional: bool = False
    index: bool = False
    target: bool = False


def one_each(node: Node) -> int:
    """One operation for each element of the result."""
    return node.tensor.nelements


def several_each(count: int) -> Callable[[Node], int]:
    """So many operations for each element of the result."""
    return lambda node: count * node.tensor.nelements


Rule = Callable[[Node], str | None]  # what is broken, or None
Shape = Callable[[Node], Dims]


@dataclass(frozen=True, slots=True)
class Contract:
    """One op.

    Attributes:
        op: which.
        sources: in ggml's order.
        result: the types that the result may have.
        ne: the result's dimensions, given sources and parameters.
        params: a NamedTuple of int and float fields, laid out one after the other in
            op_params, 4 bytes each.
        rules: what else must hold; each returns what is broken, or None. They look at
            types, shapes and parameters alone.
        placed: what must hold of where result and sources lie, or None.
        computes: False for a view, which only describes bytes that are there already.
        flops: the floating-point operations of a node, a multiply-add being two and a
            function one; what is only moved is none.
    """

    op: Op
    sources: tuple[Source, ...]
    result: frozenset[GGMLType]
    ne: Shape
    params: type = NoParams
    rules: tuple[Rule, ...] = ()
    placed: Rule | None = None
    computes: bool = True
    flops: Callable[[Node], int] = one_each

    def unpack_params(self, op_params: bytes) -> Any:
        """Decode op_params."""
        return self.params._make(  # type: ignore[attr-defined]
            params_layout(self.params).unpack_from(op_params)
        )

    def pack_params(self, params: Any) -> bytes:
        """Encode op_params, which `unpack_params` reads."""
        packed = params_layout(self.params).pack(*params)
        return packed.ljust(OP_PARAMS_BYTES, b"\0")

    def used(self, src: tuple[int, ...]) -> tuple[int, ...]:
        """The ids of sources that a node can have; of all, where it has more."""
        used = src[: len(self.sources)]
        return src if any(src[len(used) :]) else used

    def check(self, node: Node) -> None:
        """Hold a node against the contract.

        Raises:
            GraphError: it breaks it; the message names the node, its op and the rule.
        """
        _demand(node, self._broken(node))

    def check_placed(self, node: Node) -> None:
        """Hold a node against the rule of where things lie.

        Raises:
            GraphError: it breaks it.
        """
        _demand(node, self.placed and self.placed(node))

    def _broken(self, node: Node) -> str | None:
        for tensor, source in zip(node.src, self.sources, strict=False):
            if tensor is None:
                if not source.optional:
                    return f"source {source.name} is missing"
            elif tensor.type not in source.types:
                return f"source {source.name} cannot be {tensor.type.name}"
        if any(node.src[len(self.sources) :]):
            return f"takes {len(self.sources)} sources at most"
        if node.tensor.type not in self.result:
            return f"the result cannot be {node.tensor.type.name}"
        for rule in self.rules:
            broken = rule(node)
            if broken:
                return broken
        ne = self.ne(node)
        if node.tensor.ne != ne:
            return f"the result's ne is {list(node.tensor.ne)}, must be {list(ne)}"
        return None


def _demand(node: Node, broken: str | None) -> None:
    if broken:
        raise GraphError(f"{node.tensor}: {broken}")


@cache
def params_layout(params: type) -> struct.Struct:
    """How the fields of a NamedTuple, ints and floats, lie in op_params."""
    codes = {int: "i", float: "f"}
    return struct.Struct(
        "<" + "".join(codes[kind] for kind in get_type_hints(params).values())
    )


CONTRACTS: dict[Op, Contract] = {}


def define(*contracts: Contract) -> None:
    """Register contracts; called once by each family's file."""
    for contract in contracts:
        CONTRACTS[contract.op] = contract


def contract_of(op: Op) -> Contract:
    """The contract of an op.

    Raises:
        GraphError: ggrpc has none.
    """
    contract = CONTRACTS.get(op)
    if contract is None:
        raise GraphError(f"{op.name} is an op that ggrpc does not compute")
    return contract
