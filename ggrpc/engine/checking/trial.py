"""A small graph with its data, made anew wherever it is to be computed.

The data come from a seed, so that every device gets the same bytes.
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
from ggrpc.formats.nmse import absolute_errors, nmse
from ggrpc.formats.numpy_values import pack
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

SEED = 20251124

# How far a result may lie from the cpu's, as a normalised mean squared error. The
# bounds are those of ggml's own comparison of its backends.
EXACT = 1e-7
TABLED = 1e-6  # what a backend may look up, as ggml's cpu does for GELU
ROUNDED = 5e-4  # what multiplies F16 or quantized values, as each backend rounds them


class Compare(Enum):
    """What of a result must agree."""

    VALUES = "values"
    SETS = "sets"  # of each row, in any order


class Case(NamedTuple):
    """What one comparison computes.

    Attributes:
        name: the op and, after a hyphen, what is special.
        build: adds to a trial's graph; its last node is the result.
        limit: how far the result may lie from the cpu's.
        compare: what of it must agree.
        since: the first op table whose meaning of the op is today's.
    """

    name: str
    build: Callable[[Trial], Tensor]
    limit: float = EXACT
    compare: Compare = Compare.VALUES
    since: str = ""


class Trial:
    """A graph in the making, and its data.

    Attributes:
        g: the graph.
        data: by tensor, its values or bytes.
        rng: for data that a case makes itself.
    """

    def __init__(self) -> None:
        self.g = GraphBuilder()
        self.data: dict[Tensor, Values] = {}
        self.rng = np.random.default_rng(SEED)

    def given(self, array: Array, type: GGMLType | str = GGMLType.F32) -> Tensor:
        """A tensor of these values; its shape is ne reversed."""
        tensor = self.g.tensor(type, *array.shape[::-1])
        self.data[tensor] = pack(array, tensor.type)
        return tensor

    def normal(self, *ne: int, type: GGMLType | str = GGMLType.F32) -> Tensor:
        """Random data, as `normal_bytes` makes them."""
        tensor = self.g.tensor(type, *ne)
        self.data[tensor] = normal_bytes(tensor, self.rng)
        return tensor

    def weights(self, *ne: int, type: GGMLType | str = GGMLType.F32) -> Tensor:
        """Random values that keep the size of what they are multiplied with."""
        values = self.rng.standard_normal(ne[::-1], np.float32)
        return self.given(values / ne[0] ** 0.5, type)

    def uniform(self, low: float, high: float, *ne: int) -> Tensor:
        """Random values in between."""
        return self.given(self.rng.uniform(low, high, ne[::-1]))

    def indices(
        self, below: int, *ne: int, type: GGMLType | str = GGMLType.I32
    ) -> Tensor:
        """Random numbers from 0 on; those of a row are different."""
        rows = [self.rng.permutation(below)[: ne[0]] for _ in range(_rows(ne))]
        return self.given(np.array(rows).reshape(ne[::-1]), type)


def result_of(case: Case, device: Device) -> Array:
    """Compute a case on a device.

    Raises:
        UnsupportedOp: the device says that it cannot.
        GgrpcError: it failed.
    """
    trial = Trial()
    result = case.build(trial)
    with Computation(
        trial.g, trial.data, outputs=[result], devices=[device]
    ) as computation:
        return computation.run()[result]


def difference(case: Case, theirs: Array, ours: Array) -> float:
    """How far two results lie apart; 0 where they must be equal and are."""
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
    return nmse(absolute_errors(theirs, ours), ours)


def _rows(ne: Sequence[int]) -> int:
    rows = 1
    for n in ne[1:]:
        rows *= n
    return rows
