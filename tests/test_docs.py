"""The generated parts of the docs are current, and their links and files exist."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
# Files of the repository that a page names, except placeholders such as <family>.py.
FILE = re.compile(r"`((?:ggrpc|tests|docs)/[\w/.]*)`")
PAGES = (
    *("index.md", "architecture.md", "protocol.md", "adding-a-version.md"),
    "glossary.md",
)


def test_generated_pages_are_current() -> None:
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_stale_part_is_noticed() -> None:
    generate = runpy.run_path(str(DOCS / "generate.py"))
    for name, parts in generate["PARTS"].items():
        text = (DOCS / name).read_text()
        for part in parts:
            marker = f"<!-- generated: {part} -->\n"
            stale = text.replace(marker, f"{marker}an old line\n")
            assert stale != text
            assert generate["spliced"](stale, parts) == text


def test_lost_marker_is_noticed() -> None:
    spliced = runpy.run_path(str(DOCS / "generate.py"))["spliced"]
    with pytest.raises(ValueError, match="markers of the part table"):
        spliced("a page without", {"table": lambda: ""})


def test_index_lists_every_page() -> None:
    linked = set(LINK.findall((DOCS / "index.md").read_text()))
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert pages <= linked


def test_tests_that_a_page_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "adding-a-version.md").read_text()))
    assert named
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in tests} == set()


@pytest.mark.parametrize(
    "page", [*(DOCS / name for name in PAGES), ROOT / "CONTRIBUTING.md"], ids=str
)
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text()
    named = [page.parent / link for link in LINK.findall(text)]
    named += [ROOT / file for file in FILE.findall(text)]
    assert [str(path) for path in named if not path.exists()] == []


def test_names_on_the_pages_about_the_code_exist() -> None:
    """Checks words that look like names in the code: `Graph.validate`, `_HANDLERS`."""
    pages = "architecture.md", "adding-a-version.md"
    text = "".join((DOCS / page).read_text() for page in pages)
    folders = "ggrpc", "tests", "docs"
    sources = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in sources)))
    names = re.findall(r"`@?([A-Za-z_][\w.]*)(?:\([^`]*\))?`", text)
    parts = {part for name in names for part in name.split(".")}
    parts -= {part for part in parts if part.islower() and "_" not in part}
    assert len(parts) > 100
    assert sorted(parts - words) == []
