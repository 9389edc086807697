"""The tensors of models that lie on this machine, found by their hash.

A model's file is read once, tensor by tensor; what was found out is kept in the index
until the file changes. Nothing is copied.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.index import Index, ModelTensor, Stamp
from ggrpc.engine.cache.loading import THRESHOLD
from ggrpc.engine.cache.reading import check_unchanged, scan
from ggrpc.engine.files.gguf import tensors_of
from ggrpc.errors import Cancelled, ConfigError, GgrpcError
from ggrpc.units import format_size

# A split model's files, as llama.cpp's gguf-split names them.
SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """A tensor in a file: its name, where it begins, and its bytes."""

    tensor: str
    at: int
    size: int


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: a GGUF, all of a split one, a folder of them.

    Raises:
        ConfigError: there is none.
    """
    if path.is_dir():
        found = sorted(path.rglob("*.gguf"))
    else:
        found = _parts_of(path) if path.exists() else []
    if not found:
        raise ConfigError(f"there is no model at {path}: name a GGUF, or a folder")
    return [file.resolve() for file in found]


def _parts_of(path: Path) -> list[Path]:
    split = SPLIT.fullmatch(path.name)
    if not split:
        return [path]
    stem, _, count = split.groups()
    names = [f"{stem}-{n:05}-of-{count}.gguf" for n in range(1, int(count) + 1)]
    parts = [path.with_name(name) for name in names]
    for part in parts:
        if not part.exists():
            log.warning("%s is missing: its tensors will be sent", part)
    return [part for part in parts if part.exists()]


def pieces_of(path: Path) -> list[Piece]:
    """Every tensor of a GGUF.

    Raises:
        FileError: it cannot be read, is none, or is cut short.
    """
    return [
        Piece(tensor.name, tensor.offset, tensor.size) for tensor in tensors_of(path)
    ]


class LocalModel:
    """A model's file, as far as it is worth asking for by hash.

    Args:
        path: of a GGUF.
        index: what keeps what is found out.
        hashing: finds it out.

    Attributes:
        todo: the tensors that have no hash yet.
        done: those that have one.

    Raises:
        ConfigError: as `pieces_of`.
    """

    def __init__(self, path: Path, index: Index, hashing: Hashing) -> None:
        self.path = path
        self._index = index
        self._hashing = hashing
        try:
            self._stamp = Stamp.of(path.stat())
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        known = index.known_tensors(str(path), self._stamp)
        self.done = list(known.values())
        self.todo: list[Piece] = []
        if not index.is_complete(str(path), self._stamp):
            large = [piece for piece in pieces_of(path) if piece.size > THRESHOLD]
            self.todo = [piece for piece in large if piece.tensor not in known]

    @property
    def size(self) -> int:
        """Bytes of the tensors that have no hash yet."""
        return sum(piece.size for piece in self.todo)

    def hash(self, moved: Callable[[int], None] = lambda count: None) -> None:
        """Find out the hashes that are missing; as `tensors` otherwise."""
        for _ in self.tensors(moved):
            pass

    def tensors(self, moved: Callable[[int], None]) -> Iterator[ModelTensor]:
        """Every tensor: those that have a hash, then the others as they get theirs.

        Args:
            moved: called with numbers of bytes that are done; may raise.

        Raises:
            FileChangedError: the file changes meanwhile.
            ConfigError: it cannot be read.
        """
        yield from self.done
        if not self.todo:
            return
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        try:
            self._index.add_model(str(self.path), self._stamp)
            while self.todo:
                tensor, at, size = self.todo[0]
                hasher = self._hashing.hasher()
                value, crc = scan(fd, at, size, self.path, hasher, moved)
                check_unchanged(fd, self._stamp, self.path)
                path = str(self.path)
                name = hash_name(value)
                stored = ModelTensor(name, path, tensor, at, size, crc, self._stamp)
                self._index.add_tensor(stored)
                self.done.append(stored)
                del self.todo[0]
                yield stored
            self._index.add_model(str(self.path), self._stamp, complete=True)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        finally:
            os.close(fd)


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be read: {error.strerror}")


class Indexer:
    """A thread that indexes models while a server serves; a context manager.

    A tensor can be used as soon as it has been hashed.

    Args:
        paths: of GGUFs.
        index: what keeps what is found out.
        hashing: finds it out.
    """

    def __init__(self, paths: Iterable[Path], index: Index, hashing: Hashing) -> None:
        self._paths = list(paths)
        self._index = index
        self._hashing = hashing
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="models")

    def __enter__(self) -> Indexer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        self._thread.join()

    def _work(self) -> None:
        for path in self._paths:
            try:
                self._index_one(path)
            except Cancelled:
                return
            except GgrpcError as error:
                log.warning("%s; what is not indexed will be sent", error)
            except Exception:
                log.exception("a bug in ggrpc keeps %s from being indexed", path)

    def _index_one(self, path: Path) -> None:
        model = LocalModel(path, self._index, self._hashing)
        if model.todo:
            what = len(model.todo), format_size(model.size)
            log.info("%s: hashing %d tensors, %s", path, *what)
            model.hash(self._moved)
        log.info("%s: %d tensors need not be sent", path, len(model.done))

    def _moved(self, count: int) -> None:
        if self._stopping:
            raise Cancelled("the server ends")
