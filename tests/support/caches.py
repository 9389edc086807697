"""Helpers for tests of the cache: a client, and GGUFs with chosen bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import gguf
import numpy as np

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.engine.cache.folder import LOCK
from ggrpc.engine.cache.index import FILE
from ggrpc.engine.cache.loading import Loader
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.quotas import ServerQuota
from ggrpc.engine.server.session import Session
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.dialects import V7_0_0
from ggrpc.errors import ConnectionLost
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

LARGE = (10 << 20) + 12_345  # bytes; above the threshold for caching


def random_bytes(size: int = LARGE, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


class _Link:
    """A connection whose client sends `data`."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = memoryview(data)
        self.received = b""

    def receive_data(self, view: memoryview) -> None:
        if len(view) > len(self._data):
            raise ConnectionLost("the client has gone")
        view[:] = self._data[: len(view)]
        self._data = self._data[len(view) :]

    def note(self, what: object) -> None:
        """Do nothing."""

    def send(self, request: m.Request, reply: m.Reply) -> None:
        assert isinstance(reply, m.TensorData)
        assert reply.data is not None
        self.received = bytes(reply.data)


class CacheClient:
    """A client of a server with a cache, without sockets."""

    def __init__(self, cache: TensorCache | None, asked: bool = True) -> None:
        device = CpuDevice(threads=1, weight_cache=0)
        quota = ServerQuota(Limits(), [device]).new_client()
        loader = Loader(cache, asked)
        self._session = Session([device], V7_0_0.tables, quota, loader)

    def load(self, data: bytes, flag: bool = True, value: int | None = None) -> bool:
        """Load a tensor as llama.cpp does.

        Args:
            data: the bytes of the tensor.
            flag: the field `cache` of SET_TENSOR.
            value: the hash to request; None for that of the data.

        Returns:
            Whether the server had the tensor.
        """
        tensor = self.allocated(len(data))
        found = self.ask(tensor, fnv1a(data) if value is None else value)
        if not found:
            self.send(tensor, data, flag)
        assert self.read(tensor) == data
        self._session.handle(m.FreeBuffer(remote_ptr=tensor.buffer), _Link())
        return found

    def allocated(self, size: int) -> Tensor:
        reply = self._session.handle(m.AllocBuffer(size=size), _Link())
        assert isinstance(reply, m.Allocated)
        handle, ne = reply.remote_ptr, (size, 1, 1, 1)
        nb = contiguous_nb(GGMLType.I8, ne)
        return Tensor(1, GGMLType.I8, handle, ne, nb, data=handle, raw_name=b"blk.0")

    def ask(self, tensor: Tensor, value: int) -> bool:
        request = m.SetTensorHash(tensor=tensor, offset=0, hash=value)
        reply = self._session.handle(request, _Link())
        assert isinstance(reply, m.Result)
        return bool(reply.result)

    def send(
        self, tensor: Tensor, data: bytes, flag: bool = True, size: int | None = None
    ) -> None:
        size = len(data) if size is None else size
        request = m.SetTensor(tensor=tensor, cache=flag, offset=0, size=size)
        self._session.handle(request, _Link(data))

    def read(self, tensor: Tensor) -> bytes:
        link = _Link()
        request = m.GetTensor(tensor=tensor, offset=0, size=tensor.nbytes)
        self._session.handle(request, link)
        return link.received


@contextmanager
def open_cache(folder: Path, limit: int | None = None) -> Iterator[TensorCache]:
    """Open a cache, and close it at the end of the block, as a server does."""
    with TensorCache(folder, limit) as cache:
        yield cache


def entry_names(folder: Path) -> list[str]:
    """The names of the entries of a cache."""
    return sorted(path.name for path in folder.iterdir() if "." not in path.name)


def cache_size(folder: Path) -> int:
    """The total size in bytes of the entries, including those being written."""
    size = 0
    for path in folder.iterdir():
        if path.name != LOCK and not path.name.startswith(FILE):  # and its journal
            with suppress(FileNotFoundError):
                size += path.stat().st_size
    return size


def write_gguf(path: Path, *tensors: bytes) -> Path:
    """Write a GGUF with I8 tensors named a, b, c and so on."""
    writer = gguf.GGUFWriter(path, "llama")
    for number, data in enumerate(tensors):
        writer.add_tensor(chr(ord("a") + number), np.frombuffer(data, np.int8))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
