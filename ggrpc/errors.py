"""Every error that ggrpc raises on purpose, in one tree:

    GgrpcError
    ├── ConfigError                 a flag, endpoint, device or version makes no sense
    ├── TransportError              the connection itself
    │   ├── ConnectError            nobody answers there
    │   ├── BindError               the server cannot listen there
    │   ├── TransportTimeout        the time budget ran out
    │   ├── ConnectionLost          the peer closed or reset the connection
    │   └── Cancelled               we ended it ourselves
    ├── ProtocolError               the bytes on the connection
    │   ├── LocalProtocolError      we were asked to send something illegal
    │   ├── RemoteProtocolError     the peer sent something illegal
    │   └── VersionMismatch         the peer speaks a version that we do not
    ├── RefusedError                a well-formed request that cannot be granted
    ├── GraphError                  a graph or tensor that breaks a rule of ggml
    ├── FileError                   a file cannot be read or written
    │   └── RecordingError          a recording
    └── DeviceError                 a device cannot be used
        ├── UnsupportedOp           it has no kernel for this node
        └── OutOfMemory             it has not got that much memory

Each message is one line that says what happened, where, and what to do next.
"""

from __future__ import annotations


class GgrpcError(Exception):
    """The root: catching it catches everything that ggrpc raises on purpose.

    Attributes:
        endpoint: the peer concerned, as `host:port`, or None.
        command: the protocol command under way, such as `GET_TENSOR`, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        endpoint: str | None = None,
        command: str | None = None,
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.command = command


class ConfigError(GgrpcError):
    """What the operator asked for makes no sense."""


class TransportError(GgrpcError):
    """The connection failed."""


class ConnectError(TransportError):
    """Could not connect."""


class BindError(TransportError):
    """Could not listen on the address asked for."""


class TransportTimeout(TransportError):
    """The time budget of an operation ran out."""


class ConnectionLost(TransportError):
    """The peer closed or reset the connection in the middle of a conversation."""


class Cancelled(TransportError):
    """This process ended the connection: another thread, or a call that failed."""


class ProtocolError(GgrpcError):
    """The conversation broke the protocol; the connection cannot go on."""


class LocalProtocolError(ProtocolError):
    """We were asked to send something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class VersionMismatch(ProtocolError):
    """The peer speaks a protocol version that ggrpc does not."""


class RefusedError(GgrpcError):
    """A well-formed request for something that is not there or not allowed."""


class GraphError(GgrpcError):
    """A tensor, node or graph breaks one of ggml's rules."""


class FileError(GgrpcError):
    """A file cannot be read or written."""


class RecordingError(FileError):
    """A recording cannot be read or written."""


class DeviceError(GgrpcError):
    """A device failed or cannot be used."""


class UnsupportedOp(DeviceError):
    """The device has no kernel for a node."""


class OutOfMemory(DeviceError):
    """The device has not got the memory asked for."""
