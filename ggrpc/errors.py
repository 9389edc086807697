"""Every error that ggrpc raises on purpose, in one tree.

    GgrpcError
    ├── ConfigError                 an invalid flag, endpoint, device or version
    ├── TransportError              the connection itself
    │   ├── ConnectError            no server answers at the address
    │   ├── BindError               the server cannot listen on the address
    │   ├── TransportTimeout        an operation took too long
    │   ├── ConnectionLost          the peer closed or reset the connection
    │   └── Cancelled               this process closed the connection
    ├── ProtocolError               the bytes on the connection
    │   ├── LocalProtocolError      this side tried to send an invalid message
    │   ├── RemoteProtocolError     the peer sent an invalid message
    │   │   └── UnsupportedFork     the client is a fork of llama.cpp
    │   └── VersionMismatch         the peer speaks an unsupported version
    ├── RefusedError                a well-formed request that cannot be granted
    ├── GraphError                  a graph or tensor that breaks a rule of ggml
    ├── FileError                   a file cannot be read or written
    │   └── RecordingError          a recording cannot be read or written
    └── DeviceError                 a device failed or cannot be used
        ├── UnsupportedOp           the device has no kernel for a node
        └── OutOfMemory             the device does not have enough free memory

Each message is one line that says what happened, where, and what to do next.
"""

from __future__ import annotations


class GgrpcError(Exception):
    """The base class of every error that ggrpc raises on purpose.

    Attributes:
        endpoint: the peer, as `host:port`, or None.
        command: the protocol command in progress, such as `GET_TENSOR`, or None.
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
    """The user asked for something invalid: a flag, endpoint, device or version."""


class TransportError(GgrpcError):
    """A connection failed."""


class ConnectError(TransportError):
    """Could not connect to the peer."""


class BindError(TransportError):
    """Could not listen on an address."""


class TransportTimeout(TransportError):
    """An operation on the network took too long."""


class ConnectionLost(TransportError):
    """The peer closed or reset the connection."""


class Cancelled(TransportError):
    """This process closed the connection, in another thread or after a failed call."""


class ProtocolError(GgrpcError):
    """A message broke the protocol; the connection cannot be used any more."""


class LocalProtocolError(ProtocolError):
    """This side tried to send something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class UnsupportedFork(RemoteProtocolError):
    """The client is a fork of llama.cpp with a protocol of its own."""


class VersionMismatch(ProtocolError):
    """The peer speaks a protocol version that ggrpc does not support."""


class RefusedError(GgrpcError):
    """The server refused a well-formed request."""


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
    """The device does not have enough free memory."""
