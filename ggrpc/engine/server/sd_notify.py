"""Notifications to systemd about the server's state; see sd_notify(3)."""

from __future__ import annotations

import logging
import os

from ggrpc.engine.net.unix_socket import send_datagram

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> None:
    """Send a state to the socket in $NOTIFY_SOCKET; do nothing if it is not set."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        send_datagram(address, state.encode())
    except OSError as error:
        log.warning("cannot send %s to $NOTIFY_SOCKET: %s", state, error.strerror)
