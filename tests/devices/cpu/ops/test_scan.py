"""Recurrent ops of the cpu device have the same result in blocks along any axis."""

from __future__ import annotations

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.ops import scan
from ggrpc.formats.nmse import nmse
from tests.support.case import Case, run_case
from tests.support.cases import linear_attention as attention
from tests.support.cases import recurrent

CASES = {
    "heads_of_a_group": recurrent.scan(16, 8, 12, tokens=5),
    "groups": recurrent.scan(16, 8, 12, groups=6, tokens=5, seqs=2),
    "sequences": recurrent.scan(16, 8, 2, tokens=5, seqs=7),
    "rates": recurrent.scan(16, 1, 50, tokens=5),
    "slots": recurrent.scan(16, 8, 12, tokens=5, seqs=2, k=3),
    "transposed": attention.gla(16, 9, 5, 2),
    "transposed_read_first": attention.wkv6(16, 9, 5, 2),
    "delta": attention.delta_net(16, 9, 5, 2, gates=16, k=2),
}


@pytest.mark.parametrize("block", [1, 1 << 9, 1 << 11])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scan_in_blocks_has_the_same_result(
    cpu: CpuDevice, case: Case, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = run_case(cpu, case).values()
    monkeypatch.setattr(scan, "BLOCK", block)
    (blocks,) = run_case(cpu, case).values()
    assert nmse(blocks, whole) < 1e-13
