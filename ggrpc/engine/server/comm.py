"""Links between a session's devices and those of another server, for COMM_ALLREDUCE.

A client that spreads each tensor over two servers (llama.cpp's `-sm tensor`) lets them
add their parts between themselves. COMM_INIT makes both servers set up a connection: it
carries no messages, only the elements, whose number both know. A client may name any
host and port, so a server opens a port and connects only where its operator allows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from ipaddress import ip_address
from ssl import SSLContext

import numpy as np

from ggrpc.devices.device import Buffer, Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline, MinimumRate
from ggrpc.engine.net.rendezvous import await_peer, meet_peer
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.engine.server.limits import MIN_BYTES_PER_SECOND
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.layouts import CAPS_BYTES
from ggrpc.errors import GgrpcError, RefusedError, TransportError
from ggrpc.formats.codecs import pack_bf16, unpack_bf16

# Seconds for the other server to come; it has had the same request at the same time.
MEET_SECONDS = 10.0
# Seconds that a link may be silent while a reduction is due: the other server may have
# much more to compute before it.
LINK_SECONDS = 300.0
# Elements from which on they travel as BF16, as in ggml-rpc.cpp.
MIN_BF16 = 32768
# Elements that are converted and sent at once.
CHUNK = 1 << 18
MIN_PORT = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommSettings:
    """Where a server may link its devices with those of another one.

    Attributes:
        enabled: whether it does at all.
        host: where it listens on rank 0.
        allowlist: the addresses that may connect to rank 0.
        peers: the addresses that rank 1 may connect to; None for those in `allowlist`.
        server_tls: the context for rank 0; None for a plain connection.
        client_tls: the context for rank 1.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    allowlist: Allowlist = field(default_factory=Allowlist)
    peers: Allowlist | None = None
    server_tls: SSLContext | None = None
    client_tls: SSLContext | None = None


@dataclass
class Link:
    """The connection of one device.

    Attributes:
        stream: the connection.
        rank: 0 sends first, 1 receives first.
    """

    stream: Stream
    rank: int


class Links:
    """The links of one session.

    Args:
        settings: what the server allows.
        client: the address of the session's client.
    """

    def __init__(self, settings: CommSettings, client: str) -> None:
        self._settings = settings
        self._client = client
        self._links: dict[Device, Link] = {}

    def init(self, device: Device, request: m.CommInit) -> bool:
        """Link a device; True also if it has a link already."""
        if device in self._links:
            return True
        try:
            self._links[device] = self._meet(request)
        except GgrpcError as error:
            log.warning(
                "%s: COMM_INIT of %s: %s; the client reduces by itself",
                *(self._client, device.name, error),
            )
            return False
        link = self._links[device]
        log.info(
            "%s: %s is linked with %s, as rank %d",
            *(self._client, device.name, link.stream.endpoint, link.rank),
        )
        return True

    def allreduce(self, device: Device, buffer: Buffer, at: int, count: int) -> None:
        """Exchange F32 elements with the linked device, and add what comes, in place.

        Both ends hold as many elements. The own ones are added as they are, and those
        of the other end as they travelled: rounded to BF16 from MIN_BF16 on.

        Raises:
            RefusedError: the device has no link.
            TransportError: the link broke.
        """
        link = self._links.get(device)
        if link is None:
            raise RefusedError(f"{device.name} has no link: COMM_INIT comes first")
        try:
            if link.rank == 0:
                self._send(link, buffer, at, count)
                self._receive_and_add(link, buffer, at, count)
            else:
                theirs = _room(count, count)
                self._receive(link, theirs.data.cast("B"))
                self._send(link, buffer, at, count)
                _add(buffer, at, theirs)
        except TransportError as error:
            raise TransportError(
                f"the link of {device.name} with {link.stream.endpoint} failed: {error}"
            ) from error

    def free(self, device: Device) -> None:
        """Close the link of a device, if it has one."""
        link = self._links.pop(device, None)
        if link is not None:
            link.stream.close()

    def close(self) -> None:
        """Close all links."""
        for device in list(self._links):
            self.free(device)

    def _meet(self, request: m.CommInit) -> Link:
        settings = self._settings
        if not settings.enabled:
            raise RefusedError("--no-comm is set")
        if request.world != 2 or request.rank > 1:
            raise RefusedError(
                f"rank {request.rank} of {request.world} servers: ggrpc links two"
            )
        if not MIN_PORT <= request.port < 1 << 16:
            raise RefusedError(f"port {request.port} is not from {MIN_PORT} to 65535")
        deadline = Deadline(MEET_SECONDS)
        if request.rank == 0:
            stream = await_peer(
                Endpoint(settings.host, request.port),
                settings.allowlist.allows,
                deadline,
                settings.server_tls,
            )
        else:
            stream = meet_peer(
                Endpoint(request.host_name, request.port),
                self._may_connect_to,
                deadline,
                self._client_tls(),
            )
        try:
            _greet(stream, request.rank, deadline)
        except BaseException:
            stream.close()
            raise
        stream.set_call_timeout(LINK_SECONDS)
        return Link(stream, request.rank)

    def _may_connect_to(self, host: str) -> bool:
        """Whether rank 1 may connect to an address.

        A client on this machine may send it to this machine.
        """
        if ip_address(self._client).is_loopback and ip_address(host).is_loopback:
            return True
        peers = self._settings.peers or self._settings.allowlist
        return not peers.allows_all and peers.allows(host)

    def _client_tls(self) -> SSLContext | None:
        settings = self._settings
        if settings.server_tls and not settings.client_tls:
            raise RefusedError("a server with TLS needs --tls-client-ca for a link")
        return settings.client_tls

    def _send(self, link: Link, buffer: Buffer, at: int, count: int) -> None:
        limit = _limit()
        with buffer.read(at, 4 * count) as view:
            if count < MIN_BF16:
                link.stream.send([view], limit)
                return
            ours = np.frombuffer(view, np.float32)
            for first in range(0, count, CHUNK):
                part = ours[first : first + CHUNK]
                rounded = np.empty(len(part), np.uint16)
                pack_bf16(part, rounded)
                link.stream.send([rounded.data.cast("B")], limit)

    def _receive(self, link: Link, view: memoryview) -> None:
        link.stream.receive_exactly(view, _limit())

    def _receive_and_add(self, link: Link, buffer: Buffer, at: int, count: int) -> None:
        """Receive in pieces, so that a tensor of any size needs little memory."""
        for first in range(0, count, CHUNK):
            theirs = _room(min(CHUNK, count - first), count)
            self._receive(link, theirs.data.cast("B"))
            _add(buffer, at + 4 * first, theirs)


def _limit() -> MinimumRate:
    return MinimumRate(LINK_SECONDS, "", MIN_BYTES_PER_SECOND)


def _room(elements: int, count: int) -> np.ndarray:
    """Room for elements as they travel, where `count` travel in all."""
    return np.empty(elements, np.uint16 if count >= MIN_BF16 else np.float32)


def _add(buffer: Buffer, at: int, theirs: np.ndarray) -> None:
    """Add elements to those of a buffer from byte `at` on."""
    if theirs.dtype == np.uint16:
        widened = np.empty(len(theirs), np.float32)
        unpack_bf16(theirs, widened)
        theirs = widened
    with buffer.update(at, theirs.nbytes) as view:
        ours = np.frombuffer(view, np.float32)
        np.add(ours, theirs, out=ours)


def _greet(stream: Stream, rank: int, deadline: Deadline) -> None:
    """Exchange capabilities, all zero for TCP; rank 1 begins."""
    theirs = memoryview(bytearray(CAPS_BYTES))
    if rank == 0:
        stream.receive_exactly(theirs, deadline)
    stream.send([bytes(CAPS_BYTES)], deadline)
    if rank == 1:
        stream.receive_exactly(theirs, deadline)
