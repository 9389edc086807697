"""Pages of the docs that are made from the code are those that the code makes."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT


def test_generated_pages_are_current() -> None:
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
