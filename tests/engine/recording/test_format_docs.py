"""The example reader in docs/recording.md reads what ggrpc writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ggrpc.engine.recording.journal import Journal, Message
from ggrpc.engine.recording.weight_recording import WeightRecording
from tests.support.paths import ROOT
from tests.support.recordings import compute, recorded_here

PAGE = ROOT / "docs" / "recording.md"


@pytest.fixture(scope="module")
def read() -> Any:
    """The function that the page defines."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(block, PAGE, "exec"), names)
    return names["messages"]


@pytest.mark.parametrize("weights", WeightRecording)
def test_example_reader_reads_the_same_messages(
    read: Any, tmp_path: Path, weights: WeightRecording
) -> None:
    path = recorded_here(tmp_path / "graph.bin", weights, client=larger)
    with Journal(path) as journal:
        ours = [
            (e.connection, e.from_server, e.command, e.size, e.payload())
            for e in journal.events()
            if isinstance(e, Message)
        ]
        assert not journal.cut
    assert list(read(path)) == ours
    assert any(len(data) > 1 << 20 for *_, data in ours) is (
        weights is WeightRecording.FULL
    )


def larger(endpoint: Any) -> None:
    """Compute with a weight that takes several chunks."""
    compute(endpoint, 2, rows=1 << 13)
