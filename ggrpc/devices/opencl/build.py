"""Builds the sources under `kernels/`, once for each set of defines and device.

What was built is kept on disk by pyopencl, by device, driver, source and options.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from threading import Lock

import pyopencl as cl

from ggrpc.errors import DeviceError

SOURCES = Path(__file__).with_name("kernels")
OPTIONS = ("-cl-std=CL1.2", "-cl-mad-enable", "-cl-no-signed-zeros")

# Programs of a device, of some MiB each. Models take a dozen or two; a client may ask
# for attention of thousands of widths.
MOST_KEPT = 256

Define = str | int | float
Key = tuple[str, tuple[tuple[str, Define], ...]]


class Builder:
    """Programs of one context, each built when it is first asked for.

    Args:
        context: of one device.
    """

    def __init__(self, context: cl.Context) -> None:
        self._context = context
        self._cache = _cache_folder()
        self._built: dict[Key, cl.Program] = {}
        self._lock = Lock()

    def program(self, family: str, **defines: Define) -> cl.Program:
        """The program of `kernels/<family>.cl` with these defines.

        Raises:
            DeviceError: the driver cannot build it; the message is the driver's.
        """
        key = family, tuple(sorted(defines.items()))
        # Without the lock, as others build for seconds.
        return self._built.get(key) or self._build_once(key)

    def _build_once(self, key: Key) -> cl.Program:
        with self._lock:
            if key not in self._built:
                built = self._build(*key)
                if len(self._built) >= MOST_KEPT:
                    del self._built[next(iter(self._built))]
                self._built[key] = built
            return self._built[key]

    def _build(
        self, family: str, defines: tuple[tuple[str, Define], ...]
    ) -> cl.Program:
        source = (SOURCES / f"{family}.cl").read_text()
        options = [*OPTIONS, "-I", str(SOURCES)]
        options += [f"-D{name}={value}" for name, value in defines]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the compiler has to remark
                program = cl.Program(self._context, source)
                # False, which pyopencl takes for no cache, is missing in its types.
                program.build(options, cache_dir=self._cache)  # type: ignore[arg-type]
                return program
        except cl.Error as error:
            raise DeviceError(
                f"the OpenCL driver cannot build {family}.cl: {first_line(error)}"
            ) from error


def first_line(error: Exception) -> str:
    """What a driver says, without the log of its compiler."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _cache_folder() -> str | bool:
    """Where compiled programs are kept; False where nothing can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "ggrpc" / "opencl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return str(folder) if os.access(folder, os.W_OK) else False
