from __future__ import annotations

import numpy as np
import pytest

from ggrpc.engine.recording.comparison import compare
from ggrpc.formats.numpy_values import contiguous_tensor, pack, quantize
from ggrpc.types import GGMLType


def floats(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


def compared(
    ours: bytes, theirs: bytes, type: GGMLType = GGMLType.F32, tolerance: float = 1e-3
) -> tuple[float, float, int | None]:
    tensor = contiguous_tensor(type, (type.blck_size, 1, 1, 1))
    return tuple(compare(tensor, ours, theirs, tolerance))


def test_same_values_do_not_differ() -> None:
    inf, nan = float("inf"), float("nan")
    same = floats(0, -1.5, inf, -inf, nan)
    assert compared(same, same) == (0, 0, None)
    assert compared(b"", b"") == (0, 0, None)


def test_error_is_normalised_by_the_recorded_values() -> None:
    nmse, largest, first = compared(floats(3, 4.5), floats(3, 4))
    assert nmse == pytest.approx(0.25 / 25)
    assert (largest, first) == (0.5, 1)
    assert compared(floats(3, 4.5), floats(3, 4), tolerance=0.1)[2] is None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_nan_and_infinity_are_an_infinite_error(wrong: float) -> None:
    nmse, _, first = compared(floats(1, wrong), floats(1, 2))
    assert (nmse, first) == (np.inf, 1)


def test_integers_are_equal_or_not() -> None:
    ours, theirs = (
        np.array(v, np.int32).tobytes() for v in ([1, 2, 9, 4], [1, 2, 3, 4])
    )
    assert compared(ours, theirs, GGMLType.I32) == (0.25, 6, 2)


def test_quantized_values_are_unpacked() -> None:
    values = np.linspace(-1, 1, 64, dtype=np.float32)
    ours, theirs = quantize(values, "Q8_0"), quantize(values + 0.5, "Q8_0")
    nmse, largest, first = compared(ours, theirs, GGMLType.Q8_0)
    assert nmse > 1e-3 and largest == pytest.approx(0.5, abs=0.02) and first == 0


def test_bytes_that_cut_through_blocks_are_compared_as_bytes() -> None:
    assert compared(b"abc", b"abd") == (pytest.approx(1 / 3), 1, 2)
    assert compared(bytes(35), bytes(35), GGMLType.Q8_0) == (0, 0, None)


EXTREMES = [0.0, 1.0, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e308, -1e308]


@pytest.mark.parametrize("type", ["F16", "F32", "F64", "BF16", "Q8_0"])
def test_no_values_make_numpy_warn(type: str) -> None:
    """In these tests, warnings are errors."""
    rows = [np.resize([one, other], 32) for one in EXTREMES for other in EXTREMES]
    packed = [bytes(pack(row, GGMLType[type])) for row in rows]
    tensor = contiguous_tensor(GGMLType[type], (32, 1, 1, 1))
    for ours in packed:
        for theirs in packed[::7]:
            assert compare(tensor, ours, theirs, 1e-3).nmse >= 0
