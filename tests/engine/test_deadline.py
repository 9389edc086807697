from __future__ import annotations

import pytest

from ggrpc.engine.deadline import NEVER, Deadline
from ggrpc.errors import TransportTimeout


def test_deadline_counts_down() -> None:
    left = Deadline(100).left()
    assert left is not None
    assert 99 < left <= 100


def test_deadline_that_has_passed_raises() -> None:
    with pytest.raises(TransportTimeout, match="within 0 s"):
        Deadline(0).left()


def test_no_deadline_has_no_end() -> None:
    assert NEVER.left() is None
