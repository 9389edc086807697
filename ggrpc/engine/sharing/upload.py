"""Tensors of a file in a server's memory, for as long as somebody wants them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ggrpc.devices.device import Device
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.engine.files.arrays import save
from ggrpc.engine.files.tensors import FileTensor, read_tensors
from ggrpc.engine.sharing.session_sharing import row_of
from ggrpc.errors import ConfigError, DeviceError


class UploadedTensors:
    """What was pushed to one device: a `TensorHolder`.

    Args:
        device: where tensors go.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stored: dict[str, DeviceTensor] = {}

    def push(self, path: Path, moved: Callable[[int], None]) -> None:
        """Write all tensors of a file to the device, and read each back.

        Args:
            path: of any kind that `read_tensors` knows.
            moved: called with numbers of bytes that are done.

        Raises:
            ConfigError: the file cannot be read.
            OutOfMemory: the device has no room.
            DeviceError: other bytes came back than were sent.
        """
        for loaded in read_tensors(path):
            if loaded.name in self._stored:
                raise ConfigError(f"{path}: there is a tensor '{loaded.name}' already")
            tensor = DeviceTensor(self._device, loaded.type, *loaded.ne)
            self._stored[loaded.name] = tensor
            tensor.set_bytes(loaded.data)
            self._compare(tensor, loaded, moved)

    def _compare(
        self, tensor: DeviceTensor, loaded: FileTensor, moved: Callable[[int], None]
    ) -> None:
        at = 0
        for piece in tensor.pieces():
            if piece != loaded.data[at : at + len(piece)]:
                raise DeviceError(
                    f"{self._device.name}: {loaded.name} came back with other bytes "
                    "than were sent; check the node's memory"
                )
            at += len(piece)
            moved(len(piece))

    def listing(self) -> list[dict[str, Any]]:
        """A row for each tensor."""
        return [row_of(name, each.tensor) for name, each in self._stored.items()]

    def save(self, name: str, path: Path, force: bool) -> None:
        """Write one to a file, as `files/arrays.py` says."""
        if name not in self._stored:
            raise ConfigError(f"there is no tensor '{name}'")
        tensor = self._stored[name]
        save(path, tensor.tensor, tensor.pieces(), force)
