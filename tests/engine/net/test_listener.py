from __future__ import annotations

import signal
import threading
import time

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.listener import Listener


@pytest.mark.timeout(20)
def test_signal_that_another_thread_gets_wakes_it() -> None:
    listener = Listener(Endpoint("127.0.0.1", 0))
    before = signal.signal(signal.SIGUSR1, lambda number, frame: listener.stop())

    def signal_this_thread() -> None:
        time.sleep(0.3)  # until the main thread sleeps
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=signal_this_thread)
    thread.start()
    try:
        listener.run(lambda stream: stream.close())
    finally:
        thread.join()
        listener.close()
        signal.signal(signal.SIGUSR1, before)
