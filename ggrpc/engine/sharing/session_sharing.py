"""Lets other processes of this user save what an open session holds.

A server shows a session's memory to that session alone. So the process that has the
session listens at a socket of this machine, and writes the files that it is asked for.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Protocol

from ggrpc.closable import Closable
from ggrpc.endpoint import Endpoint
from ggrpc.errors import ConfigError, ConnectionLost, GgrpcError, RefusedError
from ggrpc.tensor import Tensor

MAX_MESSAGE = 1 << 26  # bytes of a request or answer: a row for each tensor
REPLY_SECONDS = 300.0  # seconds for a large tensor to be fetched and written

Row = dict[str, Any]


class TensorHolder(Protocol):
    """What holds tensors."""

    def listing(self) -> Sequence[Row]:
        """What there is: a row for each, with its `name`."""

    def save(self, name: str, path: Path, force: bool) -> None:
        """Write one to a file."""


def row_of(name: str, tensor: Tensor) -> Row:
    """What a keeper lists of a tensor."""
    return {
        "name": name,
        "type": tensor.type.name,
        "ne": list(tensor.ne),
        "size_bytes": tensor.nbytes,
    }


def runtime_dir() -> Path:
    """The folder of the sockets, which nobody else may enter.

    Raises:
        ConfigError: it cannot be made.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime or tempfile.gettempdir()) / f"ggrpc-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat()
    except OSError as error:
        raise ConfigError(f"cannot use {folder}: {error.strerror}") from None
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise ConfigError(f"{folder} is not this user's alone: remove it")
    return folder


class SharingServer(Closable):
    """Offers what a keeper has; a context manager.

    Args:
        endpoint: the server that has the memory.
        keeper: what holds the tensors.

    Attributes:
        path: of the socket.

    Raises:
        ConfigError: the socket cannot be made.
    """

    def __init__(self, endpoint: Endpoint, keeper: TensorHolder) -> None:
        self._endpoint = endpoint
        self._keeper = keeper
        handle, name = tempfile.mkstemp(".sock", "", runtime_dir())
        os.close(handle)
        self.path = Path(name)
        self.path.unlink()  # the name is ours, the socket takes its place
        try:
            self._listener = Listener(name, "AF_UNIX")
        except OSError as error:
            raise ConfigError(f"cannot listen at {name}: {error}") from None
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Offer nothing any more."""
        self._stopping = True
        with suppress(OSError):
            Client(str(self.path), "AF_UNIX").close()  # wakes the thread
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                with self._listener.accept() as connection:
                    self._answer(connection)
            except Exception:
                pass  # whoever asked has gone, or is none of ours: the next may be

    def _answer(self, connection: Connection[Any, Any]) -> None:
        request = json.loads(connection.recv_bytes(MAX_MESSAGE))
        answer: Row = {"endpoint": str(self._endpoint)}
        try:
            if "save" in request:
                path, force = Path(request["path"]), request["force"]
                self._keeper.save(request["save"], path, force)
            answer["tensors"] = list(self._keeper.listing())
        except GgrpcError as error:
            answer["error"] = str(error)
        connection.send_bytes(json.dumps(answer).encode())


class SharedSession:
    """A session of another process.

    Args:
        path: of its socket.

    Attributes:
        endpoint: the server that has the memory.
        tensors: what is shared, a row for each.

    Raises:
        ConnectionLost: the process has gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        answer = self._ask({})
        self.endpoint = Endpoint.parse(answer["endpoint"])
        self.tensors: list[Row] = answer["tensors"]

    def save(self, name: str, path: Path, force: bool) -> None:
        """Have a tensor written to a file.

        Raises:
            RefusedError: it was not; the message says why.
            ConnectionLost: the process has gone.
        """
        request = {"save": name, "path": str(path.absolute()), "force": force}
        error = self._ask(request).get("error")
        if error:
            raise RefusedError(error)

    def _ask(self, request: Row) -> Row:
        try:
            with Client(str(self._path), "AF_UNIX") as connection:
                connection.send_bytes(json.dumps(request).encode())
                if not connection.poll(REPLY_SECONDS):
                    raise ConnectionLost(f"no answer from the holder at {self._path}")
                answer: Row = json.loads(connection.recv_bytes(MAX_MESSAGE))
                return answer
        except (OSError, EOFError) as error:
            raise ConnectionLost(f"the holder at {self._path} has gone") from error


def shared_sessions() -> Iterator[SharedSession]:
    """What this user's processes hold; sockets that nobody listens at are removed."""
    for path in sorted(runtime_dir().glob("*.sock")):
        try:
            yield SharedSession(path)
        except ConnectionLost as lost:
            if isinstance(lost.__cause__, ConnectionRefusedError):
                path.unlink(missing_ok=True)
