"""Fills the caches of servers with the weights of a model ahead of time.

This works with any server that has a cache, llama.cpp's own included. Tensors that a
server already has are not sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.checked_reads import OnProgress
from ggrpc.engine.cache.index import Index, ModelTensor
from ggrpc.engine.cache.loading import PENDING_TIMEOUT
from ggrpc.engine.cache.models import LocalModel
from ggrpc.engine.client.client import Client
from ggrpc.engine.files.ranges import FileRange
from ggrpc.errors import (
    Cancelled,
    ConfigError,
    RefusedError,
    RemoteProtocolError,
    TransportTimeout,
)
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from ggrpc.units import format_size

STORE_TIMEOUT = 60.0  # seconds; for a client without a timeout
DISK_BYTES_PER_SECOND = 10 << 20  # slower than any disk that is fit for a cache
MAX_ROW = 1 << 20  # elements; ne and nb have 32 bits on the wire


class WarmingCounts(NamedTuple):
    """How many tensors a server already had, and how many were sent to it.

    Attributes:
        present: the number of tensors that the server already had.
        present_bytes: their total size in bytes.
        sent: the number of tensors that were sent; in a dry run, those that would be.
        sent_bytes: their total size in bytes.
    """

    present: int = 0
    present_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0

    def plus(self, size: int, present: bool) -> WarmingCounts:
        """The counts with one more tensor."""
        if present:
            count = self.present + 1
            return self._replace(present=count, present_bytes=self.present_bytes + size)
        return self._replace(sent=self.sent + 1, sent_bytes=self.sent_bytes + size)


class ModelWeights:
    """The large tensors of models, hashed in a thread while others are sent.

    A context manager. Several threads may iterate over it at the same time; an error of
    the hashing thread is raised in each of them.

    Args:
        paths: the GGUF files.
        index: stores the hashes.
        hashing: computes the hashes.

    Attributes:
        count: the number of tensors.
        size: their total size in bytes.
        largest: the size of the largest one in bytes.

    Raises:
        ConfigError: no tensor is large enough for a cache.
        FileError: a file cannot be read, is not a GGUF file, or is truncated.
    """

    def __init__(self, paths: Sequence[Path], index: Index, hashing: Hashing) -> None:
        self._models = [LocalModel(path, index, hashing) for path in paths]
        sizes = [tensor.size for model in self._models for tensor in model.done]
        sizes += [tensor.size for model in self._models for tensor in model.todo]
        if not sizes:
            raise ConfigError(
                "nothing to send: caches store tensors larger than 10 MiB, and the "
                "model has none"
            )
        self.count, self.size, self.largest = len(sizes), sum(sizes), max(sizes)
        self._hashed: list[ModelTensor] = []
        self._stopping = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> ModelWeights:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        self._thread.join()

    def __iter__(self) -> Iterator[ModelTensor]:
        for at in range(self.count):
            with self._changed:
                self._changed.wait_for(lambda at=at: self._has(at))  # type: ignore[misc]
                if len(self._hashed) <= at:
                    assert self._error is not None
                    raise self._error
            yield self._hashed[at]

    def _has(self, at: int) -> bool:
        return len(self._hashed) > at or self._error is not None

    def _work(self) -> None:
        try:
            for model in self._models:
                for tensor in model.tensors(self._check_stopping):
                    with self._changed:
                        self._hashed.append(tensor)
                        self._changed.notify_all()
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _check_stopping(self, count: int) -> None:
        if self._stopping:
            raise Cancelled("the hashes are no longer needed")


def warm(
    client: Client,
    weights: ModelWeights,
    device: int = 0,
    dry_run: bool = False,
    on_progress: OnProgress = lambda count: None,
) -> WarmingCounts:
    """Send the tensors that a server does not have in its cache.

    Args:
        client: a session with the server.
        weights: the tensors.
        device: the device for a temporary buffer of the size of the largest tensor.
        dry_run: send nothing.
        on_progress: called with the size of each tensor that was present or sent.

    Raises:
        OutOfMemory: the device does not have enough memory for the buffer.
        RefusedError: the server does not store the tensors in a cache.
        RemoteProtocolError: the server takes too long to store a tensor.
        TransportTimeout: the server takes too long to look up tensors.
        GgrpcError: the connection failed, or a model file cannot be read.
    """
    buffer = client.allocate(weights.largest, device)
    base, counts = client.base(buffer), WarmingCounts()
    sent: list[tuple[Tensor, int]] = []
    queries = _HashQueries(client)
    for weight in weights:
        tensor = _as_rows(weight, buffer, base)
        value = int(weight.hash, 16)
        present = queries.ask(tensor, value)
        if not present and not dry_run:
            _send(client, tensor, weight)
            if not sent:
                _check_stored(client, tensor, value)
            sent.append((tensor, value))
        counts = counts.plus(weight.size, present)
        on_progress(weight.size)
    # With a small limit the first tensor is gone, with a full disk the last one.
    for tensor, value in (sent[0], sent[-1]) if len(sent) > 1 else ():
        _check_stored(client, tensor, value)
    client.free(buffer)
    client.alignment(device)  # its reply shows that all requests are done
    return counts


class _HashQueries:
    """Asks a server whether it has tensors, within a time limit for all queries.

    The limit is the timeout, plus the time that a slow disk needs to read the tensors.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seconds = 0.0
        self._bytes = 0

    def ask(self, tensor: Tensor, value: int) -> bool:
        start = time.monotonic()
        present = self._client.set_tensor_hash(tensor, value)
        self._seconds += time.monotonic() - start
        self._bytes += tensor.nbytes
        timeout = self._client.timeout
        if timeout and self._seconds > timeout + self._bytes / DISK_BYTES_PER_SECOND:
            raise TransportTimeout(
                f"{self._client.endpoint} took {self._seconds:.0f} s to look for "
                f"{format_size(self._bytes)} in its cache: its disk is too slow or it "
                "is overloaded; increase --timeout to wait longer",
                endpoint=str(self._client.endpoint),
                command="SET_TENSOR_HASH",
            )
        return present


def _as_rows(weight: ModelTensor, buffer: int, base: int) -> Tensor:
    """The bytes of a weight as a tensor of I8 rows at the start of the buffer."""
    row = min(MAX_ROW, weight.size & -weight.size)
    ne = (row, weight.size // row, 1, 1)
    nb, name = contiguous_nb(GGMLType.I8, ne), weight.tensor.encode()[:63]
    return Tensor(1, GGMLType.I8, buffer, ne, nb, data=base, raw_name=name)


def _send(client: Client, tensor: Tensor, weight: ModelTensor) -> None:
    data = FileRange(Path(weight.path), weight.offset, weight.size)
    client.set_tensor_in_pieces(tensor, weight.size, data.pieces(), keep=True)


def _check_stored(client: Client, tensor: Tensor, value: int) -> None:
    slowest = client.timeout or STORE_TIMEOUT
    slowest += tensor.nbytes / DISK_BYTES_PER_SECOND
    end = time.monotonic() + slowest
    while True:
        start = time.monotonic()
        if client.set_tensor_hash(tensor, value):
            return
        # While the entry is being written, the server delays its reply; see
        # `Loader.load`. A fast reply means that the tensor is not stored.
        if time.monotonic() - start < PENDING_TIMEOUT / 2:
            raise RefusedError(
                f"{client.endpoint} does not store tensors in its cache: start it with "
                "--cache and a sufficient --cache-limit, and check the space on its "
                "disk",
                endpoint=str(client.endpoint),
            )
        if time.monotonic() > end:
            raise RemoteProtocolError(
                f"{client.endpoint} has not stored a tensor of "
                f"{format_size(tensor.nbytes)} after {slowest:.0f} s; check its disk, "
                "or increase --timeout",
                endpoint=str(client.endpoint),
                command="SET_TENSOR_HASH",
            )
