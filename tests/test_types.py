from __future__ import annotations

import json

from ggrpc.types import GGMLType
from tests.support.paths import shared


def test_types_are_those_of_ggml() -> None:
    published = json.loads(shared("protocol/types.json").read_text())
    ours = {
        t.name: (int(t), t.blck_size, t.type_size, t.is_quantized) for t in GGMLType
    }
    assert ours == {
        name: (row["id"], row["block"], row["bytes"], row["quantized"])
        for name, row in published.items()
    }


def test_row_size_counts_blocks() -> None:
    assert GGMLType.F16.row_size(5) == 10
    assert GGMLType.Q4_K.row_size(512) == 288
