"""Hostile names and files, for tests of the code that prints and reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Each changes what a terminal shows, if it is printed unescaped.
NAMES = {
    "escape": "\x1b]0;owned\x07\x1b[2J",
    "C1": "\x9b31m",
    "backspace": "good\b\b\b\bbad",
    "line": "x\nggrpc: error: call 555",
    "carriage return": "x\rno tensor",
    "separators": "x\u2028y\u2029z\x85",
    "backwards": "x\u202efdp.exe\u202c",
    "isolate": "\u2066x\u2069\u200f",
    "invisible": "a\u200bb\u2060c\ufeff",
    "tag": "a\U000e0041",
    "delete": "a\x7fb",
}

# As a path, each leads out of a folder, is hidden in it, or is invalid.
PATHS = [
    "/tmp/x",
    "../x",
    "..",
    ".",
    "a/../../x",
    "..\\x",
    "",
    ".bashrc",
    "a/b",
    "x\0y",
]


class Entry(NamedTuple):
    """An entry of a GGUF's table of tensors."""

    name: str
    ne: Sequence[int] = (32,)
    type: int = 0
    offset: int = 0


def gguf(
    path: Path,
    *entries: Entry,
    pairs: bytes = b"",
    counts: tuple[int, int] | None = None,
    data: bytes = bytes(4096),
    version: int = 3,
) -> Path:
    """Write a GGUF.

    Args:
        path: the path of the file.
        entries: the table of tensors.
        pairs: the encoded key-value pairs.
        counts: the numbers of tensors and pairs in the header; None for the number of
            entries and no pairs.
        data: the bytes after the header, aligned.
        version: the version of the format.
    """
    head = struct.pack("<4sIQQ", b"GGUF", version, *(counts or (len(entries), 0)))
    head += pairs
    for name, ne, type, offset in entries:
        head += text(name) + struct.pack(f"<I{len(ne)}Q", len(ne), *ne)
        head += struct.pack("<IQ", type, offset)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def text(value: str | bytes) -> bytes:
    """A string as a GGUF stores it."""
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def safetensors(path: Path, names: Sequence[str]) -> Path:
    """Write a .safetensors of tensors of one element."""
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}
        for at, name in enumerate(names)
    }
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4 * len(names)))
    return path
