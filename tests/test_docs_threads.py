"""The architecture page lists every lock and thread that the code makes, by file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.paths import ROOT

LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"}
THREADS = {"Thread", "Timer", "ThreadPoolExecutor", "ThreadPool"}
SCOPES = (ast.ClassDef, ast.FunctionDef)


def source_calls(
    node: ast.AST, names: set[str], scope: tuple[ast.AST, ...] = ()
) -> Iterator[tuple[tuple[ast.AST, ...], ast.Call]]:
    """The calls of functions with these names, and the nodes that enclose each."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            function = child.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            if name in names:
                yield (*scope, node), child
        yield from source_calls(child, names, (*scope, node))


def qualified(scope: tuple[ast.AST, ...], place: ast.expr) -> str:
    """`Class.name` of an attribute of self, `function.name` of a local name."""
    names = [node.name for node in scope if isinstance(node, SCOPES)]
    if isinstance(place, ast.Attribute):
        owner = next(node.name for node in scope if isinstance(node, ast.ClassDef))
        return f"{owner}.{place.attr}"
    assert isinstance(place, ast.Name), ast.dump(place)
    return ".".join((*names, place.id))


def lock_name(scope: tuple[ast.AST, ...], call: ast.Call) -> str:
    """The name that a lock is assigned to."""
    assignment = scope[-1]
    assert isinstance(assignment, ast.Assign), "assign a lock to a name of its own"
    return qualified(scope, assignment.targets[0])


def thread_name(scope: tuple[ast.AST, ...], call: ast.Call) -> str:
    """The name of the function that a thread runs."""
    targets = [keyword.value for keyword in call.keywords if keyword.arg == "target"]
    return qualified(scope, targets[0] if targets else call.args[1])


def test_thread_and_lock_names_follow_from_the_source() -> None:
    tree = ast.parse("""
class One:
    def __init__(self):
        self._lock = threading.Lock()
        self._thread = Thread(name="x", target=self._work)
        Timer(1, self._late).start()

def two():
    turn = RLock()
    threading.Thread(target=work).start()
""")
    locks = [lock_name(*found) for found in source_calls(tree, LOCKS)]
    threads = [thread_name(*found) for found in source_calls(tree, THREADS)]
    assert locks == ["One._lock", "two.turn"]
    assert threads == ["One._work", "One._late", "two.work"]


def test_architecture_page_lists_every_thread_and_every_lock() -> None:
    named = {"thread runs": (THREADS, thread_name), "lock": (LOCKS, lock_name)}
    package = ROOT / "ggrpc"
    trees = {
        str(path.relative_to(package)): ast.parse(path.read_text())
        for path in package.rglob("*.py")
    }
    found = {
        title: {
            (name(*call), file)
            for file, tree in trees.items()
            for call in source_calls(tree, names)
        }
        for title, (names, name) in named.items()
    }
    assert all(found.values())
    assert {title: listed(title) for title in found} == found


def listed(title: str) -> set[tuple[str, str]]:
    """The names and files in the table whose first column has this title."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = page.partition(f"| {title} | file |")[2].partition("\n\n")[0]
    return {
        (name, file)
        for cell, file in re.findall(
            r"^\| (`[^|]*) \| `([^`]*)` \|", rows, re.MULTILINE
        )
        for name in re.findall(r"`([\w.]+)`", cell)
    }
