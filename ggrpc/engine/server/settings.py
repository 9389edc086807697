"""What can be chosen about a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ssl import SSLContext

from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.store import TensorCache
from ggrpc.engine.server.allowlist import Allowed
from ggrpc.engine.server.comm import CommSettings
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.negotiation import AdaptiveNegotiator, Negotiator
from ggrpc.engine.wire.op_tables import OpTable


@dataclass(frozen=True)
class ServerSettings:
    """A server's settings.

    Attributes:
        endpoint: where to listen; port 0 takes a free one.
        devices: what to serve, in the order of their numbers on the wire.
        negotiator: what HELLO is answered with.
        op_table: how clients number ops, None to find it out by what fits.
        limits: what one client may have, and all together.
        allowed: who may connect.
        tls: what to show to clients, and whom of them to trust; None: no TLS.
        cache: where tensors are kept, None where they are not; the owner closes it.
        comm: where devices may be linked with those of other servers.
        profile: whether to find out where time goes, and to log it for each session.
        grace: seconds that a stop leaves sessions for what they have begun.
    """

    endpoint: Endpoint
    devices: Sequence[Device]
    negotiator: Negotiator = field(default_factory=AdaptiveNegotiator)
    op_table: OpTable | None = None
    limits: Limits = field(default_factory=Limits)
    allowed: Allowed = field(default_factory=Allowed)
    tls: SSLContext | None = None
    cache: TensorCache | None = None
    comm: CommSettings = field(default_factory=CommSettings)
    profile: bool = False
    grace: float = 30.0
