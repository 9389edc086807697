"""Lets other processes of the same user list and save the tensors of an open session.

A server gives a session access only to its own memory. The process that has the session
therefore listens on a Unix socket, and writes tensors to files on request.
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
from ggrpc.errors import ConnectionLost, FileError, GgrpcError, RefusedError
from ggrpc.tensor import Tensor

MAX_MESSAGE = 1 << 26  # bytes of a request or a reply, which has a row for each tensor
REPLY_TIMEOUT = 300.0  # seconds; enough to read and save a large tensor

Row = dict[str, Any]


class TensorHolder(Protocol):
    """An object with tensors that can be listed and saved."""

    def listing(self) -> Sequence[Row]:
        """A row for each tensor, as `tensor_row` returns it."""

    def save(self, name: str, path: Path, force: bool) -> None:
        """Write a tensor to a file.

        Raises:
            GgrpcError: there is no such tensor, or the file cannot be written.
        """


def tensor_row(name: str, tensor: Tensor) -> Row:
    """The description of a tensor in a listing."""
    return {
        "name": name,
        "type": tensor.type.name,
        "ne": list(tensor.ne),
        "size_bytes": tensor.nbytes,
    }


def runtime_dir() -> Path:
    """The folder of the sockets, which only this user can access.

    Raises:
        FileError: the folder cannot be created, or other users have access to it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime or tempfile.gettempdir()) / f"ggrpc-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat()
    except OSError as error:
        raise FileError(f"cannot use {folder}: {error.strerror}") from None
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise FileError(f"other users have access to {folder}: remove the folder")
    return folder


class SharingServer(Closable):
    """Shares the tensors of a holder from a thread; a context manager.

    Args:
        endpoint: the server that has the memory.
        holder: lists and saves the tensors.

    Attributes:
        path: the path of the socket.

    Raises:
        FileError: the socket cannot be created.
    """

    def __init__(self, endpoint: Endpoint, holder: TensorHolder) -> None:
        self._endpoint = endpoint
        self._holder = holder
        handle, name = tempfile.mkstemp(".sock", "", runtime_dir())
        os.close(handle)
        self.path = Path(name)
        self.path.unlink()  # the socket takes this unique name
        try:
            self._listener = Listener(name, "AF_UNIX")
        except OSError as error:
            raise FileError(
                f"cannot listen on {name}: {error.strerror or error}"
            ) from None
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop sharing, and remove the socket."""
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
                pass  # the client disconnected or sent an invalid request

    def _answer(self, connection: Connection[Any, Any]) -> None:
        request = json.loads(connection.recv_bytes(MAX_MESSAGE))
        answer: Row = {"endpoint": str(self._endpoint)}
        try:
            if "save" in request:
                path, force = Path(request["path"]), request["force"]
                self._holder.save(request["save"], path, force)
            answer["tensors"] = list(self._holder.listing())
        except GgrpcError as error:
            answer["error"] = str(error)
            answer["is_file_error"] = isinstance(error, FileError)
        connection.send_bytes(json.dumps(answer).encode())


class SharedSession:
    """A session of another process; asks for its tensors on construction.

    Args:
        path: the path of its socket.

    Attributes:
        endpoint: the server that has the memory.
        tensors: a row for each tensor, as `tensor_row` returns it.

    Raises:
        ConnectionLost: the process has ended, or does not reply.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        answer = self._ask({})
        self.endpoint = Endpoint.parse(answer["endpoint"])
        self.tensors: list[Row] = answer["tensors"]

    def save(self, name: str, path: Path, force: bool) -> None:
        """Let the other process write a tensor to a file.

        Raises:
            FileError: the other process cannot write the file.
            RefusedError: the other process failed for another reason.
            ConnectionLost: the process has ended, or does not reply.
        """
        request = {"save": name, "path": str(path.absolute()), "force": force}
        answer = self._ask(request)
        if "error" in answer:
            kind = FileError if answer.get("is_file_error") else RefusedError
            raise kind(answer["error"])

    def _ask(self, request: Row) -> Row:
        try:
            with Client(str(self._path), "AF_UNIX") as connection:
                connection.send_bytes(json.dumps(request).encode())
                if not connection.poll(REPLY_TIMEOUT):
                    raise ConnectionLost(f"no reply from the process at {self._path}")
                answer: Row = json.loads(connection.recv_bytes(MAX_MESSAGE))
                return answer
        except (OSError, EOFError) as error:
            raise ConnectionLost(f"the process at {self._path} has ended") from error


def shared_sessions() -> Iterator[SharedSession]:
    """The sessions that this user's processes share.

    Sockets of processes that have ended are removed.

    Raises:
        FileError: the folder of the sockets cannot be used; see `runtime_dir`.
    """
    for path in sorted(runtime_dir().glob("*.sock")):
        try:
            yield SharedSession(path)
        except ConnectionLost as lost:
            if isinstance(lost.__cause__, ConnectionRefusedError):
                path.unlink(missing_ok=True)
