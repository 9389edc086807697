"""Runs a server, recorder or proxy in a thread of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from ggrpc.endpoint import Endpoint


@contextlib.contextmanager
def in_background(listening: Any) -> Iterator[Endpoint]:
    """Run a server, recorder or proxy in the block; yields its first address."""
    thread = threading.Thread(target=listening.run)
    thread.start()
    try:
        yield listening.endpoints[0]
    finally:
        listening.stop()
        thread.join(20)
        assert not thread.is_alive()
