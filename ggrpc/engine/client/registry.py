"""Connections to servers, and a registry of local and remote devices by name.

This is the Python counterpart of the client side of ggml-rpc.h. The server side is
`ggrpc.engine.server.background`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from ssl import SSLContext
from threading import RLock

from ggrpc.closable import Closable
from ggrpc.devices.catalogue import Choices, open_devices
from ggrpc.devices.device import Buffer, Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import open_client
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.client.remote_device import RemoteBuffer, RemoteDevice, RemoteServer
from ggrpc.engine.net.deadline import NEVER, Deadline
from ggrpc.errors import ConfigError

SCHEME = "rpc://"


def connect(
    endpoint: str | Endpoint,
    *,
    timeout: float | None = None,
    protocol: str | None = None,
    op_table: str | None = None,
    tls: SSLContext | None = None,
) -> RemoteServer:
    """Open a session with a server, ggrpc's or llama.cpp's.

    Args:
        endpoint: `host:port`, `[v6]:port` or a host alone (port 50052).
        timeout: the maximum time in seconds to connect, and for each later operation;
            None for no limit.
        protocol: the version to speak, such as `7.0.0`; None detects it.
        op_table: the date of the server's op table, such as `2025-07-20`; None for the
            newest one of the protocol version.
        tls: the certificates to trust and to present, such as the result of
            `ssl.create_default_context`; None connects without TLS.

    Raises:
        ConfigError: an argument is invalid.
        ConnectError: the server cannot be reached or is not trusted.
        TransportTimeout: the server did not answer in time.
        ConnectionLost: the server dropped every HELLO.
        VersionMismatch: ggrpc does not support the server's version.
    """
    where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
    return open_server(where, ClientOptions.named(timeout, protocol, op_table, tls))


def open_server(endpoint: Endpoint, options: ClientOptions) -> RemoteServer:
    """Open a session with a server, and ask for its devices, within the timeout.

    Raises:
        GgrpcError: see `connect`.
    """
    session = open_client(endpoint, options, deadline=Deadline(options.timeout))
    try:
        server = RemoteServer(session)
        session.deadline = NEVER  # each later request has the timeout for itself
        return server
    except BaseException:
        session.close()
        raise


def is_rpc(what: Device | Buffer) -> bool:
    """Whether a device or a buffer is on a server."""
    return isinstance(what, (RemoteDevice, RemoteBuffer))


class Registry(Closable, Mapping[str, Device]):
    """Devices by name; a context manager that closes them.

    Local devices have the names that `ggrpc serve --device` takes; devices of a server
    are called `rpc://host:port/number`. Indexing opens a device, and connects to its
    server, when it is first used. Iteration, `len` and `in` include only open devices.
    Threads may share a registry.

    Args:
        threads: the number of threads of the cpu device; None for all processors.
        timeout: the maximum time in seconds for each operation on a server; None for no
            limit.
        tls: the certificates to trust and to present; None connects without TLS.
    """

    def __init__(
        self,
        threads: int | None = None,
        timeout: float | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        self._choices = Choices(threads=threads)
        self._options = ClientOptions(timeout, tls=tls)
        self._devices: dict[str, Device] = {}
        self._servers: dict[Endpoint, RemoteServer] = {}
        self._opening = RLock()  # so that threads do not open a device twice
        self._closing = ExitStack()

    def __getitem__(self, name: str) -> Device:
        """The device with a name; opens it if necessary.

        Raises:
            ConfigError: no device has this name.
            GgrpcError: the device cannot be used, or its server failed.
        """
        with self._opening:
            if name not in self._devices:
                if name.startswith(SCHEME):
                    self._add(name)
                else:
                    self._open(name)
            return self._devices[name]

    def __contains__(self, name: object) -> bool:
        return name in self._devices

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._devices))

    def __len__(self) -> int:
        return len(self._devices)

    def add_server(self, endpoint: str | Endpoint) -> list[RemoteDevice]:
        """The devices of a server; connects to it on the first call.

        Raises:
            GgrpcError: see `connect`.
        """
        where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        with self._opening:
            if where not in self._servers:
                server = open_server(where, self._options)
                self._servers[where] = self._closing.enter_context(server)
                self._devices.update({device.name: device for device in server.devices})
            return self._servers[where].devices

    def close(self) -> None:
        """End the sessions and close the devices, which frees all their buffers."""
        with self._opening:
            self._devices.clear()
            self._servers.clear()
            self._closing.close()

    def _open(self, name: str) -> None:
        (device,) = open_devices(name, self._choices)
        self._devices[name] = self._closing.enter_context(device)

    def _add(self, name: str) -> None:
        endpoint, _, number = name[len(SCHEME) :].rpartition("/")
        if not endpoint or not number.isdecimal():
            raise ConfigError(f"'{name}' is not a device: write rpc://host:port/0")
        server = Endpoint.parse(endpoint)
        devices = self.add_server(server)
        if int(number) >= len(devices):
            raise ConfigError(
                f"{server} has no device {number}: it has {len(devices)} devices"
            )
        self._devices[name] = devices[int(number)]
