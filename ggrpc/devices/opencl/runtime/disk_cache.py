"""What a later start finds again: files in the user's cache, whole or not at all.

Several servers may write at once: a file is put in place complete, the last one wins.
What cannot be written is made anew each time, and so is what cannot be read.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pyopencl as cl

from ggrpc.atomic_file import replacing

DIGEST = 32  # bytes of a checksum


def folder() -> Path:
    """Where they lie; it need not be there.

    Raises:
        FileNotFoundError: nobody knows where a user without a home keeps anything.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    return Path(home) / "ggrpc" / "opencl"


def identity(device: cl.Device) -> str:
    """What kernels are compiled and measured for: a device and its driver's version."""
    platform = device.platform
    parts = device.name, device.version, device.driver_version, platform.version
    return "\n".join(parts)


def load(name: str) -> bytes | None:
    """What was stored under a name; None where nothing was, or it is damaged."""
    try:
        data = (folder() / name).read_bytes()
    except OSError:
        return None
    digest, contents = data[:DIGEST], data[DIGEST:]
    return contents if sha256(contents).digest() == digest else None


def store(name: str, contents: bytes) -> None:
    """Keep bytes under a name, where that is possible."""
    with suppress(OSError):
        replace(folder() / name, sha256(contents).digest() + contents)


def replace(path: Path, contents: bytes) -> None:
    """Write a file that others see as it was, or complete.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(contents)
