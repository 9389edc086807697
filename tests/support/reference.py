"""Computes a case by the definitions of its ops in float64, to check devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ggrpc.formats.codecs import CODECS, DTYPES, Array, view_of
from ggrpc.formats.nmse import nmse
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import Tensor
from tests.support.case import Case, packed, values

# (node, values of its sources, None for absent ones) -> values of the node
Definition = Callable[..., Array]

F32_LIMIT = 1e-11
ROUNDED_LIMIT = 1e-5  # a value between two values of F16 may be rounded to either


def by_definition(case: Case, define: Definition) -> dict[str, Array]:
    """The right values of the nodes of a case.

    Args:
        case: the case.
        define: computes the values of a node from the node and the values of its
            sources, which are float64 or integers, of shape ne reversed.
    """
    image = bytearray(case.image)
    by_id = {tensor.id: tensor for tensor in case.tensors}
    for tensor in case.tensors:
        if tensor.op and contract_of(tensor.op).computes:
            node = Node.of(tensor, [by_id[i] if i else None for i in tensor.src])
            count = len(contract_of(tensor.op).sources)
            used = node.src[:count]
            sources = [None if t is None else _exact(t, image) for t in used]
            _store(tensor, define(node, *sources), image)
    return case.results(image)


def assert_agree(case: Case, actual: dict[str, Array], right: dict[str, Array]) -> None:
    """Compare results: integers must be equal, others close."""
    assert actual.keys() == right.keys()
    floats_only = all(t.type in DTYPES and t.type.type_size == 4 for t in case.tensors)
    limit = F32_LIMIT if floats_only else ROUNDED_LIMIT
    for name, expected in right.items():
        if expected.dtype.kind in "iu":
            np.testing.assert_array_equal(actual[name], expected, name)
        else:
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(actual[name][~finite], expected[~finite])
            assert nmse(actual[name][finite], expected[finite]) < limit, name


def _exact(tensor: Tensor, image: bytearray) -> Array:
    array = values(tensor, image)
    return array.astype(np.float64) if tensor.type in CODECS else array


def _store(tensor: Tensor, array: Any, image: bytearray) -> None:
    assert array.shape == tensor.ne[::-1], f"{tensor}: {array.shape}"
    with np.errstate(over="ignore"):  # the largest F16 is 65504
        stored = packed(array, tensor.type)
    view_of(tensor, memoryview(image), tensor.data)[...] = stored
