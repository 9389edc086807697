"""Fused programs give the results of unfused ones, wherever the tensors are placed.

A client may place a result over any tensor that is no longer needed. Here one or two
results of each pattern are placed over F32 tensors, also with an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from ggrpc.devices.device import Placed
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.compiler import Compiler, Fusion
from ggrpc.devices.opencl.fusions import FUSIONS
from ggrpc.devices.shared_results import disjoint
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.devices.conftest import open_opencl
from tests.devices.opencl.fusions.patterns import PATTERNS
from tests.support.case import BASE, HANDLE, Case

LIMIT = 1e-5  # fused kernels may round differently, also before they quantize

# In bytes: multiples of the alignment of ggml's allocators, and rows of 96 elements.
OFFSETS = (0, 64, -64, 384, -384)

# The ops whose result may be placed exactly over a source.
IN_PLACE = {Op.ADD, Op.MUL, Op.RMS_NORM, Op.GLU, Op.SOFT_MAX, Op.ROPE, Op.SCALE, Op.SQR}


def placements(case: Case) -> Iterator[Case]:
    """The case with one F32 tensor at a time in another place."""
    for tensor in case.tensors:
        if tensor.type is not GGMLType.F32 or tensor.view_src:
            continue
        for target in case.tensors:
            for offset in OFFSETS if target is not tensor else ():
                moved = moved_to(case, tensor, target.data + offset)
                if is_valid(moved, case.size):
                    yield case.rearranged(moved, case.size)


def moved_to(case: Case, tensor: Tensor, data: int) -> list[Tensor]:
    """All tensors, with one and the views of it at another address."""
    distance = data - tensor.data
    return [
        t._replace(data=t.data + distance) if tensor.id in (t.id, t.view_src) else t
        for t in case.tensors
    ]


def is_valid(tensors: Sequence[Tensor], size: int) -> bool:
    """Whether the unfused program has a result that does not depend on rounding."""
    by_id = {tensor.id: tensor for tensor in tensors}
    return all(
        0 <= tensor.data <= size - tensor.nbytes
        and all(
            disjoint(tensor, by_id[id]) or may_replace(tensor, by_id[id])
            for id in filter(None, tensor.src)
            if tensor.op not in (Op.NONE, Op.VIEW)
        )
        and all(
            disjoint(tensor, other)
            for other in tensors
            if other.type is not GGMLType.F32 is tensor.type
            and is_used_after(tensor, other, tensors)
        )
        for tensor in tensors
    )


def is_used_after(tensor: Tensor, other: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether weights, indices or a cache are used after a tensor is written.

    The last bit of an F32, which rounding changes, must not become part of them.
    """
    if tensor.op is Op.NONE:
        return True
    return any(other.id in (*t.src, t.view_src) for t in tensors[tensor.id :])


def may_replace(node: Tensor, source: Tensor) -> bool:
    """Whether a node may be computed in place: SET_ROWS is, in the cache."""
    if node.op is Op.SET_ROWS:
        return node.view_src == source.id
    return (
        node.op in IN_PLACE
        and (node.data, node.ne) == (source.data, source.ne)
        and all(
            n == 1 or b == c
            for n, b, c in zip(node.ne, node.nb, source.nb, strict=True)
        )
    )


def results(device: OpenClDevice, case: Case) -> tuple[int, dict[str, Array]]:
    """The number of steps of a case's program, and the results."""
    buffer = device.allocate(case.size)
    program = device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    buffer.put(0, memoryview(case.image))
    program.run()
    image = bytearray(case.size)
    buffer.get(0, memoryview(image))
    buffer.free()
    return len(program.steps), case.results(image)


def sample(cases: Sequence[Case], most: int) -> Sequence[Case]:
    """Some of the cases, evenly spread."""
    return cases[:: -(-len(cases) // most) or 1]


def case_of(pattern: str) -> Case:
    case = Case()
    PATTERNS[pattern](case)
    return case


@pytest.mark.parametrize("pattern", PATTERNS)
def test_results_are_those_of_the_unfused_program(
    opencl: OpenClDevice, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    case = case_of(pattern)
    fewer_steps = 0
    once = [*placements(case)]
    twice = [
        moved for first in sample(once, 8) for moved in sample([*placements(first)], 12)
    ]
    for moved in (case, *once, *twice):
        fused_steps, fused = results(opencl, moved)
        with monkeypatch.context() as patch:
            patch.setattr("ggrpc.devices.opencl.device.FUSIONS", {})
            steps, expected = results(opencl, moved)
        for name, values in expected.items():
            assert nmse(fused[name], values) < LIMIT, (name, moved.tensors)
        fewer_steps += fused_steps < steps
    if opencl.traits.is_cpu:
        assert fewer_steps


def test_every_fusion_matches_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    matched: set[Fusion] = set()

    def recording(fuse: Fusion) -> Fusion:
        def recorded(nodes: Sequence[Node], c: Compiler) -> int:
            count = fuse(nodes, c)
            if count:
                matched.add(fuse)
            return count

        return recorded

    recorded = {op: [*map(recording, fusions)] for op, fusions in FUSIONS.items()}
    monkeypatch.setattr("ggrpc.devices.opencl.device.FUSIONS", recorded)
    with open_opencl() as device:
        for pattern in PATTERNS:
            results(device, case_of(pattern))
    assert matched == {fuse for fusions in FUSIONS.values() for fuse in fusions}
