"""The launch sizes of a device, and the file that `ggrpc devices --tune` writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.runtime import disk_cache
from ggrpc.devices.opencl.runtime.work_group import WorkGroup

VERSION = 2  # of the file format; raise it when the kernels change
MAX = 8192  # the largest valid value, far more than is fast
MAX_MATVEC_TOKENS = 8  # the rows of b that a work-group of gpu_matvec.cl multiplies

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

    def matvec_group(self, tokens: int = MAX_MATVEC_TOKENS) -> WorkGroup:
        """The work-group of gpu_matvec.cl: a sum for each product in each work-item."""
        return WorkGroup(self.items, 4 * self.rows * tokens * self.items)

    def tile_group(self, tokens: int) -> WorkGroup:
        """The work-group of gpu_matmat.cl: both sides of a tile, and their addresses.

        Args:
            tokens: the rows of b in the tile: `tile_tokens`, or half of them.
        """
        columns = 16 * self.depth
        tile = 4 * columns * (self.tile_rows + 1 + tokens + 1)
        return WorkGroup(self.tile_rows // 8 * (tokens // 8), tile + 16 * tokens)

    def excess(self, most: WorkGroup) -> str:
        """What is larger than the device allows; empty if nothing is."""
        for fields, group in (
            ("items and rows", self.matvec_group()),
            ("tiles", self.tile_group(self.tile_tokens)),
        ):
            if not group.fits(most):
                return f"its {fields} take {group}, and the device allows {most}"
        return ""

    def within(self, most: WorkGroup) -> LaunchConfig:
        """These sizes, or the largest smaller ones that the device allows."""
        matvec, tiles = self, self
        for matvec in self.smaller_matvecs():
            if matvec.matvec_group().fits(most):
                break
        for tiles in matvec.smaller_tiles():
            if tiles.tile_group(tiles.tile_tokens).fits(most):
                break
        return tiles

    def smaller_matvecs(self) -> Iterator[LaunchConfig]:
        """These sizes, then those of ever smaller work-groups of gpu_matvec.cl."""
        config = self
        yield config
        while config.items > 1:
            config = config._replace(items=config.items // 2)
            yield config

    def smaller_tiles(self) -> Iterator[LaunchConfig]:
        """These sizes, then those of ever smaller work-groups of gpu_matmat.cl."""
        config = self
        yield config
        while larger := config._larger_side():
            config = config._replace(**{larger: getattr(config, larger) // 2})
            yield config

    def _larger_side(self) -> str:
        """The side of a tile to halve; empty for the smallest tile."""
        if self.depth > 1:
            return "depth"
        if self.tile_rows > max(8, self.tile_tokens // 2):
            return "tile_rows"
        return "tile_tokens" if self.tile_tokens > 16 else ""


def launch_config_of(device: cl.Device, most: WorkGroup | None = None) -> LaunchConfig:
    """The sizes measured for a device and its driver, or else the defaults.

    Args:
        device: the device.
        most: the largest work-group that it allows; None if it does not matter, because
            the kernels are those for CPUs. Measured sizes that need a larger one are
            ignored.
    """
    try:
        path = path_of(device)
    except FileNotFoundError:
        return LaunchConfig()
    try:
        return _parsed(path.read_text(), most)
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


def _parsed(text: str, most: WorkGroup | None = None) -> LaunchConfig:
    """Parse the contents of a file, with sizes for work-groups up to a largest one.

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
    if most and (excess := config.excess(most)):
        raise ValueError(excess)
    return config
