"""Shows the OpenCL loader the driver that the extra `ggrpc[opencl]` installs.

A loader reads the names of drivers from files in /etc/OpenCL/vendors, which belongs to
root. The package `intel-opencl-rt` puts its driver into the environment of Python,
where no loader looks. The loader inside pyopencl's wheels reads a second folder too:
`.libs` in $PYOPENCL_HOME. It reads it once, when the first platform is asked for.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

LIBRARY = Path("lib", "libintelocl.so")
HOME, FOLDER = "PYOPENCL_HOME", ".libs"

# Whoever sets one of these chooses the drivers.
CHOICES = ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "OPENCL_VENDOR_PATH")

_changing = Lock()


@contextmanager
def visible(prefix: str = sys.prefix) -> Iterator[None]:
    """Let the loader find the driver of an environment, beside those of the system.

    Args:
        prefix: the folder of the environment.
    """
    library = Path(prefix) / LIBRARY
    with _changing, ExitStack() as stack:
        if library.exists() and not any(map(os.environ.get, CHOICES)):
            with suppress(OSError):  # a full disk, for example, only hides this driver
                folder = stack.enter_context(TemporaryDirectory(prefix="ggrpc-"))
                _fill(Path(folder, FOLDER), library)
                stack.enter_context(_variable(HOME, folder))
        yield


def _fill(folder: Path, library: Path) -> None:
    """Write a folder for the loader: what it would read otherwise, and the driver."""
    folder.mkdir()
    if home := os.environ.get(HOME):
        for file in Path(home, FOLDER).glob("*.icd"):
            shutil.copy(file, folder)
    (folder / "ggrpc-intel.icd").write_text(f"{library}\n")


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
