"""`ggrpc cache`: lists, adds, verifies and removes the tensors on a worker's disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.progress import bar
from ggrpc.engine.cache.accelerated_hash import Hashing, hashing_for
from ggrpc.engine.cache.folder import CacheEntry, Folder, default_folder
from ggrpc.engine.cache.index import Access, Index
from ggrpc.engine.cache.inventory import Item, items
from ggrpc.engine.cache.models import LocalModel, files_of
from ggrpc.engine.cache.verify import Verifier, VerifyResult
from ggrpc.errors import ConfigError, FileError, GgrpcError
from ggrpc.units import format_age, format_size, parse_age, parse_size

EXAMPLES = ("ggrpc cache ls", "ggrpc cache add /models/model.gguf")
EXAMPLES_OF = {
    "ls": ("ggrpc cache ls", "ggrpc cache ls --json"),
    "add": ("ggrpc cache add /models", "ggrpc cache add model.gguf --dry-run"),
    "verify": ("ggrpc cache verify",),
    "prune": ("ggrpc cache prune --limit 200G --older-than 30d --dry-run",),
    "path": ("ggrpc cache path",),
}

CacheDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="the folder that 'ggrpc cache path' prints",
        help="Folder of the cache.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
]
Models = Annotated[list[Path], typer.Argument(metavar="MODEL.gguf", hidden=True)]
Limit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default=False,
        help="Reduce the cache to this size, such as 200G; the least recently used "
        "entries are removed first.",
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        metavar="AGE",
        show_default=False,
        help="Remove entries that were not used for this time, such as 12h, 30d or 8w.",
    ),
]

ITEMS = (
    Column("hash", "HASH"),
    Column("kind", "KIND"),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("age_seconds", "AGE", format_age, right=True),
    Column("unused_seconds", "UNUSED", format_age, right=True),
    Column("tensor", "TENSOR"),
    Column("model", "MODEL", wraps=True),
)
MODELS = (
    Column("model", "MODEL", wraps=True),
    Column("tensors", "TENSORS", right=True),
    Column("hashed", "HASHED", right=True),
    Column("hashed_bytes", "SIZE", format_size, right=True),
    Column("result", "RESULT", styles={"failed": "red", "ok": "green"}),
)
RESULTS = (
    Column("hash", "HASH"),
    Column("kind", "KIND"),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("result", "RESULT"),
    Column("where", "WHERE", wraps=True),
)
GONE = (
    Column("hash", "HASH"),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("unused_seconds", "UNUSED", format_age, right=True),
    Column("result", "RESULT"),
)


@contextmanager
def _opened(path: Path | None, changes: bool) -> Iterator[tuple[Folder, Index]]:
    """Open a cache.

    Args:
        path: the folder; None for the default one.
        changes: whether the command changes the cache. If not, nothing is created.

    Raises:
        FileError: the cache cannot be read or, if `changes`, written.
    """
    path = path or default_folder()
    try:
        folder = Folder(path, create=changes)
        if changes and not os.access(path, os.W_OK):
            raise FileError(f"the cache {path} cannot be written: check its owner")
        index = Index(path, Access.REQUIRED if changes else Access.READ)
        try:
            yield folder, index
        finally:
            index.close()
    except OSError as error:
        raise FileError(
            f"the cache {path} cannot be used: {error.strerror or error}"
        ) from error


def ls(
    context: typer.Context,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> None:
    """List the tensors that clients need not send.

    The files of the cache (entry) come first, most recently used first, then the
    tensors of indexed model files (model). The last lines are the totals. Only entries
    take space in the cache.
    """
    with _opened(cache_dir, changes=False) as (folder, index):
        found = items(folder, index)
    now = time.time_ns()
    Listing(ITEMS, as_json, not no_headers).show(
        environment_of(context),
        [_item(item, now) for item in found],
        _totals((item.kind, item.size) for item in found),
    )


def _totals(sizes: Iterable[tuple[str, int]]) -> list[Row]:
    """The last rows: the number of tensors and their size, by kind."""
    of_kind: dict[str, list[int]] = {}
    for kind, size in sizes:
        of_kind.setdefault(kind, []).append(size)
    return [
        {
            "hash": "total",
            "kind": kind,
            "size_bytes": sum(some),
            "tensor": f"{len(some)} tensors",
        }
        for kind, some in of_kind.items()
    ]


def _item(item: Item, now: int) -> dict[str, Any]:
    return {
        "hash": item.name,
        "kind": item.kind,
        "size_bytes": item.size,
        "age_seconds": _seconds(now, item.added_ns),
        "unused_seconds": item.used_ns and _seconds(now, item.used_ns),
        "tensor": item.tensor,
        "model": item.model,
    }


def _seconds(now: int, then: int) -> int:
    return max(0, now - then) // 10**9


def add(
    context: typer.Context,
    models: Models,
    cache_dir: CacheDir = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Index models, so that 'ggrpc serve -c' finds their tensors.

    MODEL.gguf is a file, one file of a split model, or a folder. Nothing is copied:
    'serve' reads the tensors from the file, as long as the file does not change.
    """
    environment = environment_of(context)
    code, rows = ExitCode.OK, []
    files = [file for model in models for file in files_of(model)]
    hashing = hashing_for(sum(file.stat().st_size for file in files))
    with _opened(cache_dir, changes=not dry_run) as (_, index):
        for path in files:
            try:
                with bar(environment, path.name, path.stat().st_size) as moved:
                    rows.append(_add(path, index, hashing, dry_run, moved))
            except GgrpcError as error:
                environment.fail(error)
                code = code_of(error)
                rows.append({"model": str(path), "result": "failed"})
    Listing(MODELS, as_json, not no_headers).show(environment, rows)
    return code


def _add(
    path: Path, index: Index, hashing: Hashing, dry_run: bool, moved: Any
) -> dict[str, Any]:
    model = LocalModel(path, index, hashing)
    count, size = len(model.todo), model.size
    if not dry_run:
        model.hash(moved)
    return {
        "model": str(path),
        "tensors": len(model.done) + len(model.todo),
        "hashed": count,
        "hashed_bytes": size,
        "result": "not done" if dry_run and count else "ok",
    }


def verify(
    context: typer.Context,
    cache_dir: CacheDir = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Check every byte, and repair or remove damaged entries.

    A damaged entry is repaired if an indexed model file has its tensor. The output
    lists damaged tensors and ends with a total; with --json it lists all tensors. The
    exit code is 1 if any is damaged.
    """
    environment = environment_of(context)
    with _opened(cache_dir, changes=not dry_run) as (folder, index):
        verifier = Verifier(folder, index, dry_run)
        with bar(environment, "checking", verifier.size) as moved:
            found = list(verifier.run(moved))
    bad = [result for result in found if not result.is_ok]
    shown = found if as_json else bad
    total = {
        "hash": "total",
        "size_bytes": sum(result.size for result in found),
        "result": f"{len(found)} checked, {len(bad)} of them damaged",
    }
    Listing(RESULTS, as_json, not no_headers).show(
        environment, [_result(result) for result in shown], [total]
    )
    return ExitCode.CHECK_FAILED if bad else ExitCode.OK


def _result(result: VerifyResult) -> dict[str, Any]:
    return {
        "hash": result.name,
        "kind": result.kind,
        "size_bytes": result.size,
        "result": result.result,
        "where": result.where,
    }


def prune(
    context: typer.Context,
    limit: Limit = None,
    older_than: OlderThan = None,
    cache_dir: CacheDir = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> None:
    """Remove entries by age, or until the cache has a given size.

    The output lists the removed entries, and ends with a total. An entry that a server
    is reading is not removed.
    """
    if limit is None and older_than is None:
        raise ConfigError("nothing to prune: give --limit, --older-than, or both")
    size = None if limit is None else parse_size(limit)
    age = None if older_than is None else parse_age(older_than)
    with _opened(cache_dir, changes=not dry_run) as (folder, index):
        gone = folder.prune(size, age, dry_run)
        if not dry_run:
            index.forget_entries(entry.name for entry in gone)
    now = time.time_ns()
    result = "would be removed" if dry_run else "removed"
    size_of_gone = sum(entry.size for entry in gone)
    total = f"{len(gone)} {result}"
    Listing(GONE, as_json, not no_headers).show(
        environment_of(context),
        [_gone(entry, now, result) for entry in gone],
        [{"hash": "total", "size_bytes": size_of_gone, "result": total}],
    )


def _gone(entry: CacheEntry, now: int, result: str) -> dict[str, Any]:
    return {
        "hash": entry.name,
        "size_bytes": entry.size,
        "unused_seconds": _seconds(now, entry.atime_ns),
        "result": result,
    }


def path(context: typer.Context, cache_dir: CacheDir = None) -> None:
    """Print the folder of the cache, the same as that of llama.cpp's server."""
    environment_of(context).write(f"{cache_dir or default_folder()}\n")


PARTS = (ls, add, verify, prune, path)
