"""The small cases of every op that has a kernel for GPUs."""

from __future__ import annotations

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.kernel_table import GPU, KERNELS, is_supported
from ggrpc.op import Op
from ggrpc.ops import Node
from tests.devices.test_against_ggml import compare
from tests.support import cases
from tests.support.case import Case, run_case

LARGEST = 70_000  # bytes of all tensors; larger ones take seconds each

# Oclgrind 21.10 extends vectors of comparisons to 255 instead of 1. The sort adds them
# up, 16 elements at a time.
SORTS, SIXTEEN = {Op.ARGSORT, Op.TOP_K}, 16


def runs(case: Case) -> bool:
    """Whether a case has a kernel that the simulator runs correctly in short time."""
    nodes = case.graph().nodes
    return case.size <= LARGEST and any(map(_runs, nodes)) and not any(map(_bug, nodes))


def _runs(node: Node) -> bool:
    return (node.tensor.op, GPU) in KERNELS and is_supported(node, GPU)


def _bug(node: Node) -> bool:
    return node.tensor.op in SORTS and node.source(0).ne[0] >= SIXTEEN


ALL = cases.all_cases().items()


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in ALL if runs(case)]
)
def test_ops(gpu: OpenClDevice, case: Case) -> None:
    with CpuDevice(threads=1) as cpu:
        compare(run_case(gpu, case), run_case(cpu, case), case)
