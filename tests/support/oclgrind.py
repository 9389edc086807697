"""Oclgrind, a simulator of OpenCL devices that reports what a kernel does wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import CACHE, ROOT, present

HOME = Path(os.environ.get("GGRPC_OCLGRIND") or CACHE / "ggrpc" / "oclgrind")
SECONDS = 280  # for one process; below the time limit of a test

# It adds up the local memory of all kernels of a program, so it gets more than devices
# have. Bounds of each array are checked in any case.
LOCAL_MEMORY = 1 << 18


class Simulated(NamedTuple):
    """What a process on the simulator came to.

    Attributes:
        code: the exit code of pytest.
        output: what pytest printed.
        reports: the simulator's reports; None if no device was opened.
    """

    code: int
    output: str
    reports: str | None


def simulate(folder: Path, *arguments: str) -> Simulated:
    """Run pytest in a process whose only OpenCL device is the simulator.

    Args:
        folder: for the reports and for the caches of the process.
        *arguments: pytest's arguments.
    """
    vendors = present(HOME / "vendors", "needs Oclgrind: .ci/install-oclgrind")
    log = folder / "reports"
    environment = {
        **os.environ,
        "OCL_ICD_VENDORS": str(vendors),
        "OCLGRIND_DATA_RACES": "1",
        "OCLGRIND_UNIFORM_WRITES": "1",  # of the same value, too
        "OCLGRIND_LOCAL_MEM_SIZE": str(LOCAL_MEMORY),
        "OCLGRIND_LOG": str(log),
        "XDG_CACHE_HOME": str(folder),
        # The process is not a worker of the pytest that started it.
        "PYTEST_ADDOPTS": "",
    }
    result = subprocess.run(
        [sys.executable, *_pytest(arguments)],
        cwd=ROOT,
        env={k: v for k, v in environment.items() if not k.startswith("PYTEST_XDIST")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    reports = log.read_text() if log.exists() else None
    return Simulated(result.returncode, result.stdout, reports)


def _pytest(arguments: Sequence[str]) -> Sequence[str]:
    plain = "-q", "-rfEs", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="
    return "-m", "pytest", *plain, *arguments
