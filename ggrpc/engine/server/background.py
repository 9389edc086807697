"""`start_server`: a server in the background of a Python program."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.server.build import ServerOptions, build_server


class BackgroundServer:
    """A running server; a context manager that stops it.

    Args:
        options: the options of the server.

    Attributes:
        endpoint: the address that the server is bound to.

    Raises:
        ConfigError: an option is invalid.
        BindError: the address is not available.
        DeviceError: a device cannot be used.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._resources = ExitStack()
        self._server = self._resources.enter_context(build_server(options))
        self.endpoint = self._server.endpoints[0]
        # A daemon, so that a program that forgets to stop the server can exit. The
        # target is a method of this object and keeps it alive: if it were collected,
        # its resources would close while the server runs.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> BackgroundServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the sessions and the server, and wait until they have ended."""
        self._server.stop()
        self._thread.join()
        self._resources.close()

    def _run(self) -> None:
        self._server.run()


def start_server(
    endpoint: str | Endpoint = "127.0.0.1",
    *,
    devices: str | Sequence[Device] = "cpu",
    n_threads: int | None = None,
    cache_dir: str | Path | None = None,
    comm: bool = True,
    comm_peers: Sequence[str] = (),
) -> BackgroundServer:
    """Serve devices of this machine, as `ggrpc serve` does.

    Args:
        endpoint: the address to listen on: `host:port`, or a host for port 50052.
            Port 0 picks a free port.
        devices: names of devices separated by commas, or open devices.
        n_threads: the number of threads of the cpu device, None for one per processor.
        cache_dir: a folder that caches large tensors, None for no cache.
        comm: whether a client may link the devices with those of another server.
        comm_peers: addresses and networks of servers to link with. Clients of this
            machine can always link servers of this machine.

    Raises:
        ConfigError: an argument is invalid.
        BindError: the address is not available.
        DeviceError: a device cannot be used.
    """
    return BackgroundServer(
        ServerOptions(
            Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint,
            devices,
            threads=n_threads,
            cache=cache_dir is not None,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            comm=comm,
            comm_peers=comm_peers,
        )
    )
