"""A test case: how to build its graph and random data, compute and compare it.

The random data has a fixed seed, so that every device gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from ggrpc.building import GraphBuilder
from ggrpc.devices.device import Device
from ggrpc.engine.compute.computation import Computation, Values
from ggrpc.engine.compute.random_data import normal_bytes
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from ggrpc.formats.numpy_values import pack
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

SEED = 20251124

# Limits of the normalised mean squared error. They are those that ggml uses when it
# compares its backends (tests/test-backend-ops.cpp).
EXACT = 1e-7
TABLED = 1e-6  # functions that a backend may look up in a table, as ggml's cpu does
ROUNDED = 5e-4  # products of F16 or quantized values, which each backend rounds


class Compare(Enum):
    """How to compare two results."""

    VALUES = "values"
    SETS = "sets"  # the values of each row, in any order


class Case(NamedTuple):
    """A graph to compute on two devices, and how to compare the results.

    Attributes:
        name: the op and, after a hyphen, the variant.
        build: builds the graph and its data, and returns the result.
        limit: the normalised mean squared error must be smaller than this to pass.
        compare: how to compare the results.
        since: the date of the first op table in which the op has its present meaning;
            "" for ops that every op table has.
    """

    name: str
    build: Callable[[CaseBuilder], Tensor]
    limit: float = EXACT
    compare: Compare = Compare.VALUES
    since: str = ""


class CaseBuilder:
    """Builds a graph and its input data.

    Attributes:
        g: the builder of the graph.
        data: the values or bytes of each input.
        rng: the source of random numbers, for cases that make their own data.
    """

    def __init__(self) -> None:
        self.g = GraphBuilder()
        self.data: dict[Tensor, Values] = {}
        self.rng = np.random.default_rng(SEED)

    def given(self, array: Array, type: GGMLType | str = GGMLType.F32) -> Tensor:
        """An input with the values of an array, whose shape is `ne` reversed."""
        tensor = self.g.tensor(type, *array.shape[::-1])
        self.data[tensor] = pack(array, tensor.type)
        return tensor

    def normal(self, *ne: int, type: GGMLType | str = GGMLType.F32) -> Tensor:
        """An input of normally distributed values; see `normal_bytes`."""
        tensor = self.g.tensor(type, *ne)
        self.data[tensor] = normal_bytes(tensor, self.rng)
        return tensor

    def weights(self, *ne: int, type: GGMLType | str = GGMLType.F32) -> Tensor:
        """An input of normal values, scaled so that products keep their size."""
        values = self.rng.standard_normal(ne[::-1], np.float32)
        return self.given(values / ne[0] ** 0.5, type)

    def uniform(self, low: float, high: float, *ne: int) -> Tensor:
        """An input of uniformly distributed values from `low` to `high`."""
        return self.given(self.rng.uniform(low, high, ne[::-1]))

    def indices(
        self, below: int, *ne: int, type: GGMLType | str = GGMLType.I32
    ) -> Tensor:
        """An input of random integers from 0 to `below` - 1, different in each row."""
        rows = [self.rng.permutation(below)[: ne[0]] for _ in range(_rows(ne))]
        return self.given(np.array(rows).reshape(ne[::-1]), type)


def result_of(case: Case, device: Device) -> Array:
    """Compute a case on a device.

    Returns:
        The result; its shape is the tensor's `ne` reversed.

    Raises:
        UnsupportedOp: the device does not support an op.
        GgrpcError: the computation failed.
    """
    builder = CaseBuilder()
    result = case.build(builder)
    with Computation(
        builder.g, builder.data, outputs=[result], devices=[device]
    ) as computation:
        return computation.run()[result]


def difference(case: Case, theirs: Array, ours: Array) -> float:
    """The error of a result.

    Args:
        case: the case, which determines how to compare.
        theirs: the result of the device under test.
        ours: the expected result.

    Returns:
        The normalised mean squared error; for integers, the share of elements that
        differ; infinity if infinity or NaN are at different positions.
    """
    if case.compare is Compare.SETS:
        theirs, ours = np.sort(theirs), np.sort(ours)
    if ours.dtype.kind != "f":
        return float(np.mean(theirs != ours)) if ours.size else 0.0
    finite = np.isfinite(ours)
    if not np.array_equal(finite, np.isfinite(theirs)):
        return float("inf")
    if not np.array_equal(theirs[~finite], ours[~finite], equal_nan=True):
        return float("inf")
    theirs, ours = theirs[finite], ours[finite]
    return nmse(theirs, ours)


def _rows(ne: Sequence[int]) -> int:
    rows = 1
    for n in ne[1:]:
        rows *= n
    return rows
