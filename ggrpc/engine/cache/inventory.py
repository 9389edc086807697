"""What a cache has, as far as that is known without a look into it."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.engine.cache.folder import CacheEntry, Folder
from ggrpc.engine.cache.index import EntryRecord, Index, ModelTensor


class Item(NamedTuple):
    """Something that a server need not be sent.

    Attributes:
        name: its hash.
        kind: `entry` where it is a file of the cache, `model` where it lies in one.
        size: bytes.
        added_ns: when the file was written, since 1970.
        used_ns: when it was last used, None where nobody notes that.
        tensor: its name, None where it is not known.
        model: the file of a model that has it, None where none is known.
    """

    name: str
    kind: str
    size: int
    added_ns: int
    used_ns: int | None
    tensor: str | None
    model: str | None


def items(folder: Folder, index: Index) -> list[Item]:
    """All that a cache has, the last used first, then what lies in models."""
    known, stored = index.entries(), index.model_tensors()
    models = {one.hash: one for one in stored}
    entries = sorted(folder.entries(), key=lambda entry: -entry.atime_ns)
    stored.sort(key=lambda one: (one.path, one.at))
    return [
        *(_entry(one, known.get(one.name), models.get(one.name)) for one in entries),
        *map(_in_model, stored),
    ]


def _entry(
    entry: CacheEntry, known: EntryRecord | None, stored: ModelTensor | None
) -> Item:
    tensor = stored.tensor if stored else known.tensor if known else ""
    model = stored.path if stored else None
    times = entry.mtime_ns, entry.atime_ns
    return Item(entry.name, "entry", entry.size, *times, tensor or None, model)


def _in_model(one: ModelTensor) -> Item:
    written = one.stamp.mtime_ns
    return Item(one.hash, "model", one.size, written, None, one.tensor, one.path)
