"""A server in this process, on a free loopback port."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.offers import FixedOffers
from ggrpc.engine.server import Server, ServerSettings
from ggrpc.engine.wire.dialects import DEFAULTS, Dialect


@contextlib.contextmanager
def running(
    *devices: CpuDevice, dialects: tuple[Dialect, ...] = DEFAULTS, host: str = "::1"
) -> Iterator[Endpoint]:
    """Serve devices (one cpu with one thread where none is given) until the end."""
    served = devices or (CpuDevice(threads=1, weight_cache=0),)
    server = Server(ServerSettings(Endpoint(host, 0), served, FixedOffers(dialects)))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.endpoints[0]
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()
