"""How kernels share their work out: what is measured, not known, to be good."""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.runtime import disk_cache

VERSION = 1  # of the file; another one is for other kernels
MAX = 1024  # of anything: far more than is good

log = logging.getLogger(__name__)


class LaunchConfig(NamedTuple):
    """Of the products of matrices; powers of two all of them.

    Attributes:
        bands: work-groups of a processor's matrix-vector product for each unit, so that
            none waits for the other long.
        tile: rows of b that a processor multiplies at once at most: so many sums fit
            its registers beside the rest.
        items: work-items of a GPU's matrix-vector product,
        rows: and rows of the matrix that they read side by side.
        tile_rows: rows of the matrix in a tile of a GPU's product of matrices,
        tile_tokens: rows of b,
        depth: and columns, in sixteens.
    """

    bands: int = 8
    tile: int = 8
    items: int = 64
    rows: int = 2
    tile_rows: int = 64
    tile_tokens: int = 64
    depth: int = 2


def launch_config_of(device: cl.Device) -> LaunchConfig:
    """Those that were measured for a device and its driver, else the usual ones."""
    try:
        path = path_of(device)
    except FileNotFoundError:
        return LaunchConfig()
    try:
        return _parsed(path.read_text())
    except FileNotFoundError:
        return LaunchConfig()
    except (OSError, ValueError) as error:
        log.warning(
            "%s is not used: %s; 'ggrpc devices --tune' makes it anew", path, error
        )
        return LaunchConfig()


def keep(device: cl.Device, shapes: LaunchConfig) -> Path:
    """Write what was measured to where `launch_config_of` finds it.

    Raises:
        OSError: it cannot be written.
    """
    path = path_of(device)
    contents = {"version": VERSION, "device": device.name, "shapes": shapes._asdict()}
    disk_cache.replace(path, json.dumps(contents, indent=2).encode() + b"\n")
    return path


def path_of(device: cl.Device) -> Path:
    """The file of a device and its driver."""
    number = sha256(disk_cache.identity(device).encode()).hexdigest()[:16]
    return disk_cache.folder() / f"shapes-{number}.json"


def _parsed(text: str) -> LaunchConfig:
    """LaunchConfig out of a file.

    Raises:
        ValueError: it is no such file.
    """
    contents = json.loads(text)
    if not isinstance(contents, dict) or contents.get("version") != VERSION:
        raise ValueError(f"it is not of version {VERSION}")
    shapes = contents.get("shapes")
    if not isinstance(shapes, dict) or shapes.keys() != LaunchConfig()._asdict().keys():
        raise ValueError("its shapes are others")
    for name, value in shapes.items():
        if type(value) is not int or not 0 < value <= MAX or value & (value - 1):
            raise ValueError(f"its '{name}' is no power of two up to {MAX}")
    made = LaunchConfig(**shapes)
    if min(made.tile_rows, made.tile_tokens // 2) < 8:
        raise ValueError("its tiles are too small")
    return made
