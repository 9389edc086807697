"""Text from peers and files, made safe for terminals, JSON and file names.

A peer or the author of a file chooses the names of tensors, devices and files. They may
contain terminal escapes, line ends, text that is shown backwards, and paths.
"""

from __future__ import annotations

import json
from typing import Any

_UNSAFE_IN_FILE_NAMES = "/\\%"


def printable(text: str) -> str:
    r"""The text on one line, with characters that are not visible escaped as `\x1b`.

    These are control characters, line ends, formatting characters such as U+202E,
    separators other than the space, and surrogates.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def to_json(value: Any) -> str:
    """The value as one line of JSON that consists of visible ASCII characters.

    Raises:
        ValueError: it contains infinity or NaN.
    """
    return json.dumps(value, allow_nan=False).replace("\x7f", "\\u007f")


def to_file_name(name: str, suffix: str = "") -> str:
    """A file name for a tensor: not a path, not hidden, and different for each name.

    Characters that are unsafe are written as `%` and their bytes in hexadecimal, as in
    a URL.
    """
    safe = "".join(
        c if c.isprintable() and c not in _UNSAFE_IN_FILE_NAMES else _quoted(c)
        for c in name
    )
    if safe.startswith("."):
        safe = _quoted(".") + safe[1:]
    return (safe or _quoted("\0")) + suffix


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _quoted(character: str) -> str:
    data = character.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)
