"""The launch sizes of a device, and the file that `ggrpc devices --tune` writes."""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.runtime import disk_cache

VERSION = 2  # of the file format; raise it when the kernels change
MAX = 8192  # the largest valid value, far more than is fast

log = logging.getLogger(__name__)


class LaunchConfig(NamedTuple):
    """The sizes of matrix products; all are powers of two, and `prefetch` may be 0.

    Attributes:
        matvec_rows: on CPUs, the rows of a quantized matrix that a matrix-vector
            product reads side by side, each from a part of its own.
        float_rows: the same for matrices of floats.
        prefetch: on CPUs, how many bytes ahead quantized matrices are prefetched.
        bands: on CPUs, the work-groups of a matrix-vector product per compute unit;
            several of them balance the load.
        tile: on CPUs, the maximum number of rows of b that are multiplied at once,
            limited by the registers for their sums.
        items: on GPUs, the work-items of a work-group of a matrix-vector product.
        rows: on GPUs, the rows of the matrix that such a work-group reads side by side.
        tile_rows: on GPUs, the rows of the matrix in a tile of a matrix product.
        tile_tokens: on GPUs, the rows of b in a tile.
        depth: on GPUs, the columns in a tile, divided by 16.
    """

    matvec_rows: int = 2
    float_rows: int = 4
    prefetch: int = 4096
    bands: int = 8
    tile: int = 8
    items: int = 64
    rows: int = 2
    tile_rows: int = 64
    tile_tokens: int = 64
    depth: int = 2


def launch_config_of(device: cl.Device) -> LaunchConfig:
    """The sizes measured for a device and its driver, or else the defaults."""
    try:
        path = path_of(device)
    except FileNotFoundError:
        return LaunchConfig()
    try:
        return _parsed(path.read_text())
    except FileNotFoundError:
        return LaunchConfig()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        log.warning(
            "%s is ignored: %s; 'ggrpc devices --tune' replaces it", path, reason
        )
        return LaunchConfig()


def is_stored(device: cl.Device) -> bool:
    """Whether there are valid measured sizes for a device and its driver."""
    try:
        _parsed(path_of(device).read_text())
    except (OSError, ValueError):
        return False
    return True


def store(device: cl.Device, config: LaunchConfig) -> Path:
    """Write the sizes for a device to the file that `launch_config_of` reads.

    Returns:
        The path of the file.

    Raises:
        OSError: the file cannot be written.
    """
    path = path_of(device)
    contents = {"version": VERSION, "device": device.name, "shapes": config._asdict()}
    disk_cache.replace(path, json.dumps(contents, indent=2).encode() + b"\n")
    return path


def path_of(device: cl.Device) -> Path:
    """The path of the file for a device and its driver."""
    number = sha256(disk_cache.identity(device).encode()).hexdigest()[:16]
    return disk_cache.folder() / f"shapes-{number}.json"


def _parsed(text: str) -> LaunchConfig:
    """Parse the contents of a file.

    Raises:
        ValueError: the contents are invalid; the message says why.
    """
    contents = json.loads(text)
    if not isinstance(contents, dict) or contents.get("version") != VERSION:
        raise ValueError(f"it is not of version {VERSION}")
    shapes = contents.get("shapes")
    if not isinstance(shapes, dict) or shapes.keys() != LaunchConfig()._asdict().keys():
        raise ValueError("its shapes have other names")
    for name, value in shapes.items():
        least = 0 if name == "prefetch" else 1
        if type(value) is not int or not least <= value <= MAX or value & (value - 1):
            raise ValueError(f"its '{name}' is not a power of two up to {MAX}")
    config = LaunchConfig(**shapes)
    if min(config.tile_rows, config.tile_tokens // 2) < 8:
        raise ValueError("its tiles are too small")
    return config
