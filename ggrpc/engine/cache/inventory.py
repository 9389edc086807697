"""Lists the tensors of a cache, from its index and its folder."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.engine.cache.folder import CacheEntry, Folder
from ggrpc.engine.cache.index import EntryRecord, Index, ModelTensor


class Item(NamedTuple):
    """A tensor that a server need not receive.

    Attributes:
        name: the hash of its bytes, 16 hexadecimal digits.
        kind: `entry` for a file of the cache, `model` for a tensor in a model file.
        size: its size in bytes.
        added_ns: when the file was written, in nanoseconds since 1970.
        used_ns: when it was last used; None for tensors in model files.
        tensor: its name; None if it is unknown.
        model: a model file that contains it; None if there is none.
    """

    name: str
    kind: str
    size: int
    added_ns: int
    used_ns: int | None
    tensor: str | None
    model: str | None


def items(folder: Folder, index: Index) -> list[Item]:
    """The entries, most recently used first, then the tensors in model files."""
    records, in_models = index.entries(), index.model_tensors()
    by_hash = {tensor.hash: tensor for tensor in in_models}
    entries = sorted(folder.entries(), key=lambda entry: -entry.atime_ns)
    in_models.sort(key=lambda tensor: (tensor.path, tensor.offset))
    return [
        *(_entry_item(e, records.get(e.name), by_hash.get(e.name)) for e in entries),
        *map(_model_item, in_models),
    ]


def _entry_item(
    entry: CacheEntry, record: EntryRecord | None, in_model: ModelTensor | None
) -> Item:
    tensor = in_model.tensor if in_model else record.tensor if record else ""
    model = in_model.path if in_model else None
    times = entry.mtime_ns, entry.atime_ns
    return Item(entry.name, "entry", entry.size, *times, tensor or None, model)


def _model_item(tensor: ModelTensor) -> Item:
    times = tensor.stamp.mtime_ns, None
    return Item(tensor.hash, "model", tensor.size, *times, tensor.tensor, tensor.path)
