"""A server that runs beside the rest of a Python program, in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType

from ggrpc.devices.catalogue import Choices, open_devices
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.server import Server
from ggrpc.engine.settings import ServerSettings


class RunningServer:
    """A server at work; a context manager that stops it.

    Args:
        settings: what it serves, and where.

    Attributes:
        endpoint: where it listens.

    Raises:
        BindError: it cannot listen there.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._server = Server(settings)
        self.endpoint = self._server.endpoints[0]
        # A daemon, so that a program which forgets to stop it can end.
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the sessions and the server, and wait for that."""
        self._server.stop()
        self._thread.join()


def start_server(
    endpoint: str | Endpoint = "127.0.0.1",
    *,
    devices: str | Sequence[Device] = "cpu",
    n_threads: int | None = None,
) -> RunningServer:
    """Serve devices of this machine, as `ggrpc serve` does.

    Args:
        endpoint: where to listen, `host:port` or a host alone (port 50052); port 0
            takes a free one.
        devices: their names with commas between, or devices that are open already.
        n_threads: how many the cpu computes with; None for all processors.

    Raises:
        ConfigError: an argument makes no sense.
        BindError: it cannot listen there.
        DeviceError: a device cannot be used.
    """
    where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
    if isinstance(devices, str):
        devices = open_devices(devices, Choices(threads=n_threads))
    return RunningServer(ServerSettings(where, devices))
