"""The settings of a server: its open devices, cache, TLS context, and its limits.

`build.py` makes them from a user's options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ssl import SSLContext

from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.negotiation import AdaptiveNegotiator, Negotiator
from ggrpc.engine.wire.op_tables import OpTable


@dataclass(frozen=True)
class ServerSettings:
    """The settings of a server.

    Attributes:
        endpoint: the address to listen on; port 0 picks a free port.
        devices: the devices to serve, in the order of their numbers on the wire.
        negotiator: chooses the protocol version for each client.
        op_table: the op table of all clients, None to detect it for each client.
        limits: the limits for each client and for all clients together.
        allowlist: the addresses that may connect.
        tls: the TLS context, None for no TLS.
        cache: the tensor cache, None for no cache; the caller closes it.
        comm: the rules for links between its devices and those of other servers.
        profile: whether to log a time profile for each session.
        warm_up: whether devices prepare for common models when the server starts.
        grace: how many seconds `stop` waits for running requests.
    """

    endpoint: Endpoint
    devices: Sequence[Device]
    negotiator: Negotiator = field(default_factory=AdaptiveNegotiator)
    op_table: OpTable | None = None
    limits: Limits = field(default_factory=Limits)
    allowlist: Allowlist = field(default_factory=Allowlist)
    tls: SSLContext | None = None
    cache: TensorCache | None = None
    comm: CommSettings = field(default_factory=CommSettings)
    profile: bool = False
    warm_up: bool = True
    grace: float = 30.0
