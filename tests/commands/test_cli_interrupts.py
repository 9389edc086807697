"""Ctrl-C ends a command at once, quietly, with 130, whatever Python does just then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.processes import free_port

# Sends itself SIGINT at the n-th call of a function; with 0, it prints their number.
COUNTING = """
import atexit, os, signal, sys
from ggrpc.__main__ import main

n, count = int(sys.argv.pop(1)), 0

def profile(frame, event, arg):
    global count
    if event in ("call", "c_call"):
        count += 1
        if count == n:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)

if not n:
    atexit.register(lambda: print(count))
sys.setprofile(profile)
main()
"""
# Presses Ctrl-C where Python drops exceptions: in a callback of a weak reference.
LOSING = """
import os, signal, sys, threading, time, weakref
from ggrpc.commands import main

class Module:
    pass

def callback(reference):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

def run(arguments, environment):
    module = Module()
    kept = weakref.ref(module, callback)
    print("begun", flush=True)
    del module
    {then}

main.run = run
main.main()
"""
# 130 is what shells show of a process that SIGINT ended, too.
INTERRUPTED = 130, -signal.SIGINT


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_ctrl_c_at_any_moment_from_start_to_exit() -> None:
    """The first moments are imports, the last ones the end of the interpreter."""
    command = "mem", f"127.0.0.1:{free_port()}"
    whole = python(COUNTING, "0", *command)
    total = int(whole.stdout)
    assert (whole.returncode, total > 1000) == (3, True)
    moments = [50, *range(total // 12, total, total // 12), total - 100, total - 1]
    for moment in moments:
        ended = python(COUNTING, str(moment), *command)
        assert ended.returncode in INTERRUPTED, moment
        assert ended.stderr in (
            "",
            "ggrpc: error: interrupted after 0 of 1 servers\n",
            whole.stderr,
        ), moment


@pytest.mark.parametrize("then", ["time.sleep(60)", "return 0"])
def test_ctrl_c_is_not_lost_in_a_callback(then: str) -> None:
    """It comes while the command goes on, or has just ended."""
    ended = python(LOSING.format(then=then))
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "begun\n", "")


def test_ctrl_c_that_the_parent_ignores_stays_ignored() -> None:
    """As a shell without job control starts a command in the background."""
    ignoring = (
        f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{COUNTING}"
    )
    ended = python(ignoring, "5000", "mem", f"127.0.0.1:{free_port()}")
    assert ended.returncode == 3
