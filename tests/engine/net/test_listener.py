from __future__ import annotations

import signal
import sys
import threading

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.listener import Listener
from tests.support.waiting import wait_until


@pytest.mark.timeout(20)
def test_signal_that_another_thread_receives_wakes_the_listener() -> None:
    listener = Listener(Endpoint("127.0.0.1", 0))
    before = signal.signal(signal.SIGUSR1, lambda number, frame: listener.stop())

    main = threading.get_ident()

    def signal_this_thread() -> None:
        wait_until(lambda: sys._current_frames()[main].f_code.co_name == "select")
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=signal_this_thread)
    thread.start()
    try:
        listener.run(lambda stream: stream.close())
    finally:
        thread.join()
        listener.close()
        signal.signal(signal.SIGUSR1, before)
