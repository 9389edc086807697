"""Hashes the large tensors of model files, so that a cache can load them from there.

Each file is read once. The index keeps the hashes until the file changes. The tensors
are not copied.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.checked_reads import OnProgress, check_unchanged, scan
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.index import Index, ModelTensor, Stamp
from ggrpc.engine.cache.loading import THRESHOLD
from ggrpc.engine.files.gguf import GgufTensor, tensors_of
from ggrpc.errors import Cancelled, FileError, GgrpcError
from ggrpc.units import format_size

# The names that llama.cpp's gguf-split gives to the files of a split model.
SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")

log = logging.getLogger(__name__)


def files_of(path: Path) -> list[Path]:
    """The model files at a path.

    Args:
        path: a GGUF file, any file of a split model, or a folder with GGUF files.

    Returns:
        The absolute paths of all files of the model, or of the models in the folder.

    Raises:
        FileError: the file does not exist, or the folder contains no GGUF file.
    """
    if path.is_dir():
        found = sorted(path.rglob("*.gguf"))
    else:
        found = _parts_of(path) if path.exists() else []
    if not found:
        raise FileError(f"there is no model at {path}: give a GGUF file, or a folder")
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


class LocalModel:
    """The tensors of a model file that are larger than the threshold of the cache.

    Args:
        path: the GGUF.
        index: stores the hashes.
        hashing: computes the hashes.

    Attributes:
        path: the GGUF.
        todo: the tensors that have not been hashed yet.
        done: the tensors that have been hashed.

    Raises:
        FileError: the file cannot be read, is not a GGUF file, or is truncated.
    """

    def __init__(self, path: Path, index: Index, hashing: Hashing) -> None:
        self.path = path
        self._index = index
        self._hashing = hashing
        try:
            self._stamp = Stamp.of(path.stat())
        except OSError as error:
            raise _unreadable(path, error) from error
        known = index.known_tensors(str(path), self._stamp)
        self.done = list(known.values())
        self.todo: list[GgufTensor] = []
        if not index.is_complete(str(path), self._stamp):
            large = [tensor for tensor in tensors_of(path) if tensor.size > THRESHOLD]
            self.todo = [tensor for tensor in large if tensor.name not in known]

    @property
    def size(self) -> int:
        """The total size in bytes of the tensors in `todo`."""
        return sum(tensor.size for tensor in self.todo)

    def hash(self, on_progress: OnProgress = lambda count: None) -> None:
        """Hash all tensors in `todo`; argument and errors are those of `tensors`."""
        for _ in self.tensors(on_progress):
            pass

    def tensors(self, on_progress: OnProgress) -> Iterator[ModelTensor]:
        """Yield the tensors in `done`, then hash and yield those in `todo`.

        Args:
            on_progress: called with the size of each piece that was hashed.

        Raises:
            FileChangedError: the file changed while it was read.
            FileError: the file cannot be read.
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
                hashed = self._hashed(fd, self.todo[0], on_progress)
                self._index.add_tensor(hashed)
                self.done.append(hashed)
                del self.todo[0]
                yield hashed
            self._index.add_model(str(self.path), self._stamp, complete=True)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        finally:
            os.close(fd)

    def _hashed(
        self, fd: int, tensor: GgufTensor, on_progress: OnProgress
    ) -> ModelTensor:
        name, _, _, offset, size = tensor
        hasher = self._hashing.hasher()
        value, crc = scan(fd, offset, size, self.path, hasher, on_progress)
        check_unchanged(fd, self._stamp, self.path)
        file = str(self.path)
        return ModelTensor(hash_name(value), file, name, offset, size, crc, self._stamp)


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path} cannot be read: {error.strerror}")


class Indexer:
    """Indexes model files in a thread while a server runs; a context manager.

    A tensor can be used as soon as it has been hashed.

    Args:
        paths: the GGUFs.
        index: stores the hashes.
        hashing: computes the hashes.
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
                log.warning("%s; clients will send tensors not yet indexed", error)
            except Exception:
                log.exception("cannot index %s because of a bug in ggrpc", path)

    def _index_one(self, path: Path) -> None:
        model = LocalModel(path, self._index, self._hashing)
        if model.todo:
            size = format_size(model.size)
            log.info("%s: hashing %d tensors, %s", path, len(model.todo), size)
            model.hash(self._check_stopping)
        log.info("%s: %d tensors need not be sent", path, len(model.done))

    def _check_stopping(self, count: int) -> None:
        if self._stopping:
            raise Cancelled("the server is stopping")
