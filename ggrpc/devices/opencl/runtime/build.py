"""Builds the sources under `kernels/`, once for each set of defines and device.

What was built is kept on disk, by device, driver, sources and options.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple, cast

import pyopencl as cl

from ggrpc.devices.opencl.runtime import disk_cache
from ggrpc.errors import DeviceError

KERNELS = Path(__file__).parents[1] / "kernels"
# A file name is used in one of these folders only.
FOLDERS = ("common", "cpu", "gpu")
# Compilers of drivers remark upon much, some of them on stderr: -w is for silence.
OPTIONS = ("-cl-std=CL1.2", "-cl-mad-enable", "-cl-no-signed-zeros", "-w")

# Programs of a device, of some MiB each. Models take a dozen or two; a client may ask
# for attention of thousands of widths.
MAX_KEPT = 256

Define = str | int | float
Key = tuple[str, tuple[tuple[str, Define], ...]]


class Owned(NamedTuple):
    """A kernel object that nothing else uses.

    Attributes:
        kernel: the object.
        key: what it was made from.
    """

    kernel: cl.Kernel
    key: tuple[Key, str]


class Builder:
    """Programs of one context, each built when it is first asked for.

    Args:
        context: of one device.
        name: what an operator calls it.
    """

    def __init__(self, context: cl.Context, name: str = "") -> None:
        self._context = context
        self._device: cl.Device = context.devices[0]
        self._name = name or self._device.name
        self._built: dict[Key, cl.Program] = {}
        self._spare: dict[tuple[Key, str], list[cl.Kernel]] = defaultdict(list)
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
                if len(self._built) >= MAX_KEPT:
                    self._drop(next(iter(self._built)))
                self._built[key] = built
            return self._built[key]

    def kernel(self, family: str, name: str, **defines: Define) -> Owned:
        """A kernel object for one launch alone, as long as its arguments are needed.

        pyopencl takes as long to make one as it does to set it up and launch it, so
        those that are given back are used again.
        """
        key = (family, tuple(sorted(defines.items()))), name
        try:
            return Owned(self._spare[key].pop(), key)
        except IndexError:
            return Owned(cl.Kernel(self.program(family, **defines), name), key)

    def give_back(self, kernels: Iterable[Owned]) -> None:
        """Nothing will launch these any more as they are."""
        for kernel, key in kernels:
            if key[0] in self._built:
                self._spare[key].append(kernel)

    def _drop(self, key: Key) -> None:
        """Forget a program, and the kernel objects that came of it."""
        del self._built[key]
        for spare in list(self._spare):  # a copy: others may give some back meanwhile
            if spare[0] == key:
                self._spare.pop(spare, None)

    def _build(
        self, family: str, defines: tuple[tuple[str, Define], ...]
    ) -> cl.Program:
        options = [*OPTIONS, *(f"-D{name}={value}" for name, value in defines)]
        name = self._file_name(family, options)
        for folder in FOLDERS:
            options += ["-I", str(KERNELS / folder)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler has to remark
            try:
                return self._kept(name) or self._compiled(family, options, name)
            except cl.Error as error:
                raise DeviceError(
                    f"{self._name}: its driver cannot build {family}.cl: "
                    f"{_complaint(error)}"
                ) from error

    def _kept(self, name: str) -> cl.Program | None:
        """A program out of the cache; None where there is none that still builds."""
        binary = disk_cache.load(name)
        if binary is None:
            return None
        try:
            return self._built_of(cl.Program(self._context, [self._device], [binary]))
        except cl.Error:
            return None

    def _compiled(self, family: str, options: Sequence[str], name: str) -> cl.Program:
        program = cl.Program(self._context, source_path(f"{family}.cl").read_text())
        self._built_of(program, options)
        binaries = cast(list[bytes], program.get_info(cl.program_info.BINARIES))
        disk_cache.store(name, binaries[0])
        return program

    def _built_of(self, program: cl.Program, options: Sequence[str] = ()) -> cl.Program:
        # False, which pyopencl takes for no cache of its own, is missing in its types.
        program.build([*options], cache_dir=False)  # type: ignore[arg-type]
        return program

    def _file_name(self, family: str, options: Sequence[str]) -> str:
        parts = disk_cache.identity(self._device), _source(f"{family}.cl"), *options
        return sha256("\0".join(parts).encode()).hexdigest() + ".bin"


@contextmanager
def failures_named(name: str) -> Iterator[None]:
    """Raise what a driver refuses as a DeviceError that names its device."""
    try:
        yield
    except cl.Error as error:
        raise DeviceError(f"{name}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What a driver says, without the log of its compiler."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _complaint(error: Exception) -> str:
    """The same, and the first error in the log of its compiler."""
    told = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return ": ".join([first_line(error), *told[:1]])


def source_path(name: str) -> Path:
    """The path of a kernel source or header, from its file name."""
    return next(p for f in FOLDERS if (p := KERNELS / f / name).exists())


def _source(name: str) -> str:
    """A file's text, followed by the text of every file that it includes."""
    text = source_path(name).read_text()
    included = re.findall(r'^ *#include "(.+)"', text, re.MULTILINE)
    return "\0".join([text, *map(_source, included)])
