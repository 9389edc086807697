"""COMM_INIT, COMM_ALLREDUCE and COMM_FREE: a session's links with other servers.

A client that splits each tensor across two servers (llama.cpp's `-sm tensor`) makes
them add up their parts directly. COMM_INIT tells both servers to connect.
"""

from __future__ import annotations

import logging
from threading import Event

from ggrpc.devices.device import Buffer, Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.server.link import CHUNK, Link, make_link
from ggrpc.engine.server.quotas import MemoryQuota, Reservation
from ggrpc.engine.wire import messages as m
from ggrpc.errors import Cancelled, GgrpcError, RefusedError, TransportError

# Elements of the largest tensor that is reduced: 1 GiB of F32, far more than a batch.
MAX_ELEMENTS = 1 << 28

log = logging.getLogger(__name__)


class Links:
    """The links of one session. Any thread may call `stop` and `shut`.

    Args:
        settings: what the server allows.
        client: the address of the session's client.
        quota: counts the memory that a reduction takes while it runs.
    """

    def __init__(
        self, settings: CommSettings, client: Endpoint, quota: MemoryQuota
    ) -> None:
        self._settings = settings
        self._client = client
        self._scratch = Reservation(quota)
        self._links: dict[Device, Link] = {}
        self._stopped = Event()

    def init(self, device: Device, request: m.CommInit) -> bool:
        """Link a device with a device of the server that a request names.

        Returns:
            Whether the device has a link now; True also if it had one before.
        """
        if device in self._links:
            return True
        try:
            link = make_link(self._settings, request, self._client.host, self._stopped)
        except GgrpcError as error:
            name = device.name
            what = f"{name} has no link, so llama.cpp adds the parts itself: {error}"
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
            device: the device whose link is used.
            buffer: the buffer with the elements.
            at: the offset of the first one, in bytes.
            count: the number of elements.

        Raises:
            RefusedError: the device has no link, or there are too many elements.
            OutOfMemory: the reduction would exceed the client's quota.
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
                self._scratch.resize(link.scratch_bytes(count))
            if count:
                link.reduce(buffer, at, count)
        except TransportError as error:
            if self._stopped.is_set():
                raise Cancelled("this server stops") from None
            raise TransportError(
                f"the link of {device.name} with {link.stream.endpoint} failed: {error}"
            ) from error
        finally:
            self._scratch.resize(0)

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
        """Stop waiting for other servers to connect; the links stay open."""
        self._stopped.set()

    def shut(self) -> None:
        """Shut all links down, so that a waiting reduction fails."""
        self.stop()
        for link in list(self._links.values()):
            link.stream.shut()

    def _log(self, level: int, what: str) -> None:
        peer = str(self._client)
        extra = {"peer": peer, "command": m.CommInit.command.name}
        log.log(level, "%s COMM_INIT: %s", peer, what, extra=extra)
