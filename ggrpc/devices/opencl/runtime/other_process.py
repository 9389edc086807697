"""Runs `main` of a module in another process, which a failing driver may abort."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
sys.path[:] = {path!r}
from {module} import main
sys.exit(main(*sys.argv[1:]))
"""


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a process that calls `main` of a module; its output is discarded.

    Args:
        module: the full name of the module.
        arguments: for `main`, whose result becomes the exit code.

    Raises:
        OSError: the process cannot be started.
    """
    code = CODE.format(path=sys.path, module=module)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def exit_code(
    process: subprocess.Popen[bytes], seconds: float | None = None
) -> int | None:
    """Wait for a process; None if it took too long, and was killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
