"""A server that runs beside the rest of a Python program, in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ggrpc.devices.catalogue import Choices, open_devices
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.store import TensorCache
from ggrpc.engine.server.server import Server
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.errors import BindError


class BackgroundServer:
    """A server at work; a context manager that stops it.

    Args:
        settings: what it serves, and where; its cache ends with it.

    Attributes:
        endpoint: where it listens.

    Raises:
        BindError: it cannot listen there.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._server = Server(settings)
        self._cache = settings.cache
        self.endpoint = self._server.endpoints[0]
        # A daemon, so that a program which forgets to stop it can end.
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def __enter__(self) -> BackgroundServer:
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
        if self._cache:
            self._cache.close()


def start_server(
    endpoint: str | Endpoint = "127.0.0.1",
    *,
    devices: str | Sequence[Device] = "cpu",
    n_threads: int | None = None,
    cache_dir: str | Path | None = None,
) -> BackgroundServer:
    """Serve devices of this machine, as `ggrpc serve` does.

    Args:
        endpoint: where to listen, `host:port` or a host alone (port 50052); port 0
            takes a free one.
        devices: their names with commas between, or devices that are open already.
        n_threads: how many the cpu computes with; None for all processors.
        cache_dir: a folder to keep large tensors in; None keeps none.

    Raises:
        ConfigError: an argument makes no sense.
        BindError: it cannot listen there.
        DeviceError: a device cannot be used.
    """
    where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
    if isinstance(devices, str):
        devices = open_devices(devices, Choices(threads=n_threads))
    cache = None
    if cache_dir is not None:
        hashing = Hashing(lambda: devices)
        cache = TensorCache(Path(cache_dir), hashing=hashing)
    try:
        return BackgroundServer(ServerSettings(where, devices, cache=cache))
    except BindError:
        if cache:
            cache.close()
        raise
