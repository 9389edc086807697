"""Sends a model's weights to servers ahead of time, for their caches to keep.

Any server that keeps a cache will do, llama.cpp's own included. What one has already is
not sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.index import Index, ModelTensor
from ggrpc.engine.cache.models import LocalModel
from ggrpc.engine.cache.store import PENDING
from ggrpc.engine.client.client import Client
from ggrpc.engine.files.gguf import map_file
from ggrpc.errors import Cancelled, ConfigError, RefusedError
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

ROW = 1 << 20  # ne and nb have 32 bits on the wire

Moved = Callable[[int], None]


class Warmed(NamedTuple):
    """What became of a server's cache.

    Attributes:
        present: tensors that it had.
        present_bytes: the bytes of those.
        sent: tensors that were sent, or would be.
        sent_bytes: the bytes of those.
    """

    present: int = 0
    present_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0

    def plus(self, size: int, present: bool) -> Warmed:
        """With one more tensor."""
        if present:
            count = self.present + 1
            return self._replace(present=count, present_bytes=self.present_bytes + size)
        return self._replace(sent=self.sent + 1, sent_bytes=self.sent_bytes + size)


class ModelWeights:
    """The large tensors of models, hashed in a thread while others are sent.

    A context manager; threads may iterate over it at the same time.

    Args:
        paths: of GGUFs.
        index: what keeps the hashes.
        hashing: finds them out.

    Attributes:
        count: how many there are.
        size: their bytes.
        largest: bytes of the largest.

    Raises:
        ConfigError: a file cannot be read, or no tensor is large enough.
    """

    def __init__(self, paths: Sequence[Path], index: Index, hashing: Hashing) -> None:
        self._models = [LocalModel(path, index, hashing) for path in paths]
        sizes = [stored.size for model in self._models for stored in model.done]
        sizes += [piece.size for model in self._models for piece in model.todo]
        if not sizes:
            raise ConfigError(
                "no tensor is large enough for a cache (10 MiB): nothing to send"
            )
        self.count, self.size, self.largest = len(sizes), sum(sizes), max(sizes)
        self._hashed: list[ModelTensor] = []
        self._over = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> ModelWeights:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
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
                for stored in model.tensors(self._moved):
                    with self._changed:
                        self._hashed.append(stored)
                        self._changed.notify_all()
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _moved(self, count: int) -> None:
        if self._over:
            raise Cancelled("nobody waits for the hashes any more")


def warm(
    client: Client,
    weights: ModelWeights,
    device: int = 0,
    dry_run: bool = False,
    moved: Moved = lambda count: None,
) -> Warmed:
    """Let a server keep what it has not got.

    Args:
        client: a session on it.
        weights: what it is to have.
        device: where there is room for the largest of them, for a while.
        dry_run: send nothing.
        moved: called with numbers of bytes that are done.

    Raises:
        OutOfMemory: there is no room.
        RefusedError: it does not keep what it is sent.
        GgrpcError: the connection failed.
    """
    buffer = client.allocate(weights.largest, device)
    base, done = client.base(buffer), Warmed()
    sent: list[tuple[Tensor, int]] = []
    for stored in weights:
        tensor = _placed(buffer, base, stored)
        value = int(stored.hash, 16)
        present = client.set_tensor_hash(tensor, value)
        if not present and not dry_run:
            _send(client, tensor, stored)
            if not sent:
                _see_that_it_keeps(client, tensor, value)
            sent.append((tensor, value))
        done = done.plus(stored.size, present)
        moved(stored.size)
    # A limit that is too small costs the first, a full disk the last.
    for tensor, value in (sent[0], sent[-1]) if len(sent) > 1 else ():
        _see_that_it_keeps(client, tensor, value)
    client.free(buffer)
    client.alignment(device)  # which answers once all has arrived
    return done


def _placed(buffer: int, base: int, stored: ModelTensor) -> Tensor:
    """Bytes as rows of a tensor, named as the model does."""
    row = min(ROW, stored.size & -stored.size)
    ne = (row, stored.size // row, 1, 1)
    nb, name = contiguous_nb(GGMLType.I8, ne), stored.tensor.encode()[:63]
    return Tensor(1, GGMLType.I8, buffer, ne, nb, data=base, raw_name=name)


def _send(client: Client, tensor: Tensor, stored: ModelTensor) -> None:
    data = map_file(stored.path)[stored.offset : stored.offset + stored.size]
    client.set_tensor(tensor, data, keep=True)


def _see_that_it_keeps(client: Client, tensor: Tensor, value: int) -> None:
    while True:
        start = time.monotonic()
        if client.set_tensor_hash(tensor, value):
            return
        # One that still has it on its way takes its time to say no.
        if time.monotonic() - start < PENDING / 2:
            raise RefusedError(
                f"{client.endpoint} does not keep what it is sent: start it with "
                "--cache, a limit that is large enough, and room on its disk",
                endpoint=str(client.endpoint),
            )
