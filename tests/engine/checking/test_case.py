from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.checking.case import Case, CaseBuilder, Compare, difference, result_of
from ggrpc.types import GGMLType

VALUES = Case("VALUES", lambda t: t.normal(1))
SETS = Case("SETS", lambda t: t.normal(1), compare=Compare.SETS)


def test_data_are_the_same_each_time() -> None:
    case = Case("ADD", lambda t: t.g.add(t.normal(33, 2), t.uniform(0, 1, 33)))
    device = CpuDevice(threads=1)
    one, two = result_of(case, device), result_of(case, device)
    assert np.array_equal(one, two)
    assert one.std() > 0.5


def test_indices_of_a_row_are_different() -> None:
    builder = CaseBuilder()
    tensor = builder.indices(8, 4, 3)
    rows = np.frombuffer(builder.data[tensor], np.int32).reshape(3, 4)  # type: ignore[call-overload]
    assert all(len(set(row)) == 4 for row in rows)
    assert rows.max() < 8


@pytest.mark.parametrize("type", [GGMLType.Q4_0, GGMLType.IQ2_XXS, GGMLType.I8])
def test_every_type_has_random_data(type: GGMLType) -> None:
    builder = CaseBuilder()
    tensor = builder.normal(256, 2, type=type)
    assert len(memoryview(builder.data[tensor])) == tensor.nbytes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "theirs", "ours", "expected"),
    [
        (VALUES, [1.0, 2.0], [1.0, 2.0], 0),
        (VALUES, [1.0, 2.5], [1.0, 2.0], 0.05),
        (VALUES, [np.inf, 1.0], [np.inf, 1.0], 0),
        (VALUES, [-np.inf, 1.0], [np.inf, 1.0], np.inf),
        (VALUES, [np.nan, 1.0], [1.0, 1.0], np.inf),
        (VALUES, [np.nan], [np.nan], 0),
        (VALUES, [0.0], [0.0], 0),
        (VALUES, [1, 2, 3, 4], [1, 2, 4, 3], 0.5),
        (VALUES, [], [], 0),
        (SETS, [1, 2, 3, 4], [1, 2, 4, 3], 0),
        (SETS, [1, 2, 3, 4], [1, 2, 4, 5], 0.5),
    ],
)
def test_difference_is_the_error(case, theirs, ours, expected) -> None:  # type: ignore[no-untyped-def]
    assert difference(case, np.array(theirs), np.array(ours)) == pytest.approx(expected)
