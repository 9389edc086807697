"""A server in this process, on a free loopback port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from ssl import SSLContext

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.negotiation import FixedNegotiator, Negotiator
from ggrpc.engine.server.server import Server
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.engine.wire.dialects import DEFAULTS, Dialect
from tests.support.background import in_background

NO_LIMITS = Limits()
COMM = CommSettings()


@contextlib.contextmanager
def running(
    *devices: Device,
    dialects: tuple[Dialect, ...] = DEFAULTS,
    host: str = "::1",
    limits: Limits = NO_LIMITS,
    grace: float = 5,
    tls: SSLContext | None = None,
    allow: Sequence[str] = (),
    comm: CommSettings = COMM,
    profile: bool = False,
    negotiator: Negotiator | None = None,
    cache: TensorCache | None = None,
) -> Iterator[Endpoint]:
    """Serve devices, by default a cpu with one thread, until the block ends."""
    served = devices or (CpuDevice(threads=1, weight_cache=0),)
    settings = ServerSettings(
        Endpoint(host, 0),
        served,
        negotiator or FixedNegotiator(dialects),
        limits=limits,
        allowlist=Allowlist(allow),
        tls=tls,
        cache=cache,
        comm=comm,
        profile=profile,
        grace=grace,
    )
    with in_background(Server(settings)) as endpoint:
        yield endpoint
