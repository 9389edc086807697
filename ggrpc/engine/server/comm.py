"""The links of a session's devices with other servers, for COMM_ALLREDUCE.

A client that spreads each tensor over two servers (llama.cpp's `-sm tensor`) lets them
add their parts between themselves. COMM_INIT makes both servers set up a connection.
"""

from __future__ import annotations

import logging
from threading import Event

from ggrpc.devices.device import Buffer, Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.server.link import CHUNK, Link, make_link
from ggrpc.engine.server.quotas import MemoryQuota
from ggrpc.engine.wire import messages as m
from ggrpc.errors import Cancelled, GgrpcError, RefusedError, TransportError

# Elements of the largest tensor that is reduced: 1 GiB, far more than a batch takes.
MAX_ELEMENTS = 1 << 28

log = logging.getLogger(__name__)


class Links:
    """The links of one session. Any thread may call `stop` and `shut`.

    Args:
        settings: what the server allows.
        client: the address of the session's client.
        quota: counts the memory that reductions take.
    """

    def __init__(
        self, settings: CommSettings, client: Endpoint, quota: MemoryQuota
    ) -> None:
        self._settings = settings
        self._client = client
        self._quota = quota
        self._links: dict[Device, Link] = {}
        self._stopped = Event()

    def init(self, device: Device, request: m.CommInit) -> bool:
        """Link a device; True also if it has a link already."""
        if device in self._links:
            return True
        try:
            link = make_link(self._settings, request, self._client.host, self._stopped)
        except GgrpcError as error:
            what = f"{device.name} has no link, so llama.cpp adds by itself: {error}"
            self._log(logging.WARNING, what)
            return False
        self._links[device] = link
        peer = link.stream.endpoint
        self._log(
            logging.INFO, f"{device.name} is linked with {peer}, as rank {link.rank}"
        )
        return True

    def allreduce(self, device: Device, buffer: Buffer, at: int, count: int) -> None:
        """Add the linked device's F32 elements to those of a buffer, in place.

        Args:
            device: whose link to use.
            buffer: where the elements are.
            at: the offset of the first one, in bytes.
            count: the number of elements.

        Raises:
            RefusedError: the device has no link, or there are too many elements.
            OutOfMemory: a reduction of this size takes more than the client may have.
            TransportError: the link failed.
            RemoteProtocolError: the other server sent more elements.
        """
        link = self._links.get(device)
        if link is None:
            raise RefusedError(f"{device.name} has no link: COMM_INIT comes first")
        if count > MAX_ELEMENTS:
            raise RefusedError(f"{count} elements are more than {MAX_ELEMENTS}")
        try:
            if count > CHUNK:
                with self._quota.taking(link.room(count)):
                    link.reduce(buffer, at, count)
            elif count:
                link.reduce(buffer, at, count)
        except TransportError as error:
            if self._stopped.is_set():
                raise Cancelled("this server stops") from None
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

    def stop(self) -> None:
        """Wait for no other server any more; the links stay."""
        self._stopped.set()

    def shut(self) -> None:
        """End all connections, so that a reduction that waits fails."""
        self.stop()
        for link in list(self._links.values()):
            link.stream.shut()

    def _log(self, level: int, what: str) -> None:
        peer = str(self._client)
        extra = {"peer": peer, "command": m.CommInit.command.name}
        log.log(level, "%s COMM_INIT: %s", peer, what, extra=extra)
