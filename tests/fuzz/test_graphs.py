"""Mutated graphs of every op, which are refused or stay inside their buffers."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ggrpc.devices.cpu import CpuDevice
from ggrpc.op import Op
from ggrpc.ops import CONTRACTS
from tests.support.cases import all_cases
from tests.support.mutations import (
    MUTATIONS,
    mutated,
    payload_of,
    random_image,
    records_of,
    run_guarded,
)

NAMES = sorted(all_cases())
FEW_EXAMPLES = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def device() -> Iterator[CpuDevice]:
    device = CpuDevice(threads=2, weight_cache=1 << 20)
    yield device
    device.close()


def test_every_op_is_mutated() -> None:
    mutated_ops = {t.op for case in all_cases().values() for t in case.tensors}
    assert mutated_ops | {Op.RESHAPE, Op.TRANSPOSE} >= CONTRACTS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_mutated_graph_stays_inside_its_buffers(name: str, device: CpuDevice) -> None:
    case, random = all_cases()[name], Random(name)
    for _ in range(3):
        payload = mutated(case, random, 1 + random.randrange(2))
        run_guarded(device, payload, random_image(case, random))


@FEW_EXAMPLES
@given(
    name=st.sampled_from(NAMES),
    random=st.randoms(use_true_random=False),
    count=st.integers(1, 4),
)
def test_randomly_mutated_graph_stays_inside_its_buffers(
    name: str, random: Random, count: int, device: CpuDevice
) -> None:
    case = all_cases()[name]
    run_guarded(device, mutated(case, random, count), random_image(case, random))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_mutation_changes_something(mutation) -> None:  # type: ignore[no-untyped-def]
    ids, records = records_of(all_cases()["matmul-OUT_PROD-F32"])
    before, random = payload_of(ids, records), Random(1)
    for _ in range(20):
        mutation(records, random)
    assert payload_of(ids, records) != before


def test_guard_notices_a_byte_out_of_bounds(device: CpuDevice) -> None:
    """Check the guard itself with a device that writes one byte too many."""
    case = all_cases()["arithmetic-SQR-F32"]
    node = case.tensors[-1]
    ids, records = records_of(case)
    image = case.image[: node.data + node.nbytes]

    class Overrunning(CpuDevice):
        def compile(self, graph, buffers):  # type: ignore[no-untyped-def]
            program = super().compile(graph, buffers)
            buffer = next(iter(buffers.values())).buffer
            run = program.run
            program.run = lambda: (run(), buffer.fill(buffer.size - 1, 1, 0))  # type: ignore[assignment]
            return program

    with pytest.raises(AssertionError, match="changed"):
        run_guarded(Overrunning(threads=1), payload_of(ids, records), image)
