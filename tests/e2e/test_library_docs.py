"""Runs the examples of docs/library.md one after the other."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "library.md"


def test_examples_run_unchanged() -> None:
    text = PAGE.read_text()
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S))
    assert len(blocks) > 8
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block[1], PAGE, "exec")
        exec(code, names)  # so that a traceback shows the line of the page
