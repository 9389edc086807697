"""Uploads the tensors of files to a device, verifies them, and keeps them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ggrpc.devices.device import Device
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.engine.files.single_tensor import save
from ggrpc.engine.files.tensors import FileTensor, read_tensors
from ggrpc.engine.sharing.session_sharing import tensor_row
from ggrpc.errors import ConfigError, DeviceError
from ggrpc.untrusted import printable


class UploadedTensors:
    """The tensors that were uploaded to a device; a `TensorHolder`.

    Args:
        device: the device.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stored: dict[str, DeviceTensor] = {}

    def push(self, path: Path, on_progress: Callable[[int], None]) -> None:
        """Write all tensors of a file to the device, read them back and compare.

        Args:
            path: a file of any format that `read_tensors` reads.
            on_progress: called with the size of each piece that was compared.

        Raises:
            ConfigError: a tensor of this name was uploaded before.
            FileError: the file cannot be read.
            OutOfMemory: the device does not have enough free memory.
            DeviceError: the bytes that were read differ from those that were written.
        """
        for loaded in read_tensors(path):
            name = printable(loaded.name)  # so that an operator can type it
            if name in self._stored:
                raise ConfigError(f"{path}: the tensor '{name}' already exists")
            tensor = DeviceTensor(self._device, loaded.type, *loaded.ne)
            self._stored[name] = tensor
            at = 0
            for piece in loaded.pieces():
                tensor.buffer.put(at, piece)
                at += len(piece)
            self._compare(tensor, loaded, on_progress)

    def _compare(
        self,
        tensor: DeviceTensor,
        loaded: FileTensor,
        on_progress: Callable[[int], None],
    ) -> None:
        # Both are read in pieces of the same size.
        for piece, expected in zip(tensor.pieces(), loaded.pieces(), strict=True):
            if piece != expected:
                raise DeviceError(
                    f"{self._device.name}: the bytes of {loaded.name} that were read "
                    "differ from those that were written; check the server's memory"
                )
            on_progress(len(piece))

    def listing(self) -> list[dict[str, Any]]:
        """A row for each tensor, as `tensor_row` returns it."""
        return [tensor_row(name, each.tensor) for name, each in self._stored.items()]

    def save(self, name: str, path: Path, force: bool) -> None:
        """Write a tensor to a file; see `engine.files.single_tensor.save`.

        Raises:
            ConfigError: there is no such tensor.
            FileError: the file cannot be written.
        """
        if name not in self._stored:
            raise ConfigError(f"there is no tensor '{name}'")
        tensor = self._stored[name]
        save(path, tensor.tensor, tensor.pieces(), force)
