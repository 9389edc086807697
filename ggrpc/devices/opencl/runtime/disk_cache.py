"""Stores built programs and tuned launch sizes on disk, in the user's cache folder.

Several servers may write at the same time: each file is replaced atomically, and the
last writer wins. A file that cannot be read or written is treated as missing.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pyopencl as cl

from ggrpc.atomic_file import replacing

DIGEST = 32  # bytes of a checksum


def folder() -> Path:
    """The folder of the files, which may not exist yet.

    Raises:
        FileNotFoundError: the user has no home directory.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    return Path(home) / "ggrpc" / "opencl"


def free_bytes() -> int:
    """The free space of the folder's disk; 0 if that is unknown."""
    try:
        path = folder()
        existing = next(p for p in (path, *path.parents) if p.exists())
        return shutil.disk_usage(existing).free
    except OSError:
        return 0


def identity(device: cl.Device) -> str:
    """A text that identifies a device, its driver and the driver's version."""
    platform = device.platform
    parts = device.name, device.version, device.driver_version, platform.version
    return "\n".join(parts)


def load(name: str) -> bytes | None:
    """The bytes stored under a name; None if there are none or they are damaged."""
    try:
        data = (folder() / name).read_bytes()
    except OSError:
        return None
    digest, contents = data[:DIGEST], data[DIGEST:]
    return contents if sha256(contents).digest() == digest else None


def store(name: str, contents: bytes) -> None:
    """Store bytes under a name, if the folder is writable."""
    with suppress(OSError):
        replace(folder() / name, sha256(contents).digest() + contents)


def replace(path: Path, contents: bytes) -> None:
    """Replace a file atomically, and create its folder.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(contents)
