"""Builds the kernel sources under `kernels/`, once for each set of defines and device.

Binaries are stored on disk, by device, driver, sources and options, unless the driver
has a cache of its own.
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
from ggrpc.devices.opencl.runtime.signals import signals_blocked
from ggrpc.devices.opencl.runtime.work_group import WorkGroup, group_of
from ggrpc.errors import DeviceError

KERNELS = Path(__file__).parents[1] / "kernels"
# Folders of the sources. Each file name occurs in only one of them.
FOLDERS = ("common", "cpu", "gpu")
# -w suppresses warnings, which some drivers print to stderr.
OPTIONS = ("-cl-std=CL1.2", "-cl-mad-enable", "-cl-no-signed-zeros", "-w")

# The maximum number of built programs of a device, of some MiB each. Models need about
# 20, but a client may use attention with thousands of different widths.
MAX_PROGRAMS = 256

# This driver compiles a kernel for each size of work-groups when it is first launched,
# and keeps it on disk. A binary makes it compile all kernels of a source, for
# any size, which takes five times as long.
POCL = "Portable Computing Language"

Define = str | int | float
Defines = tuple[tuple[str, Define], ...]  # in alphabetical order
Key = tuple[str, Defines]


class KernelKey(NamedTuple):
    """What identifies a kernel.

    Attributes:
        family: the name of its source file, without folder and suffix.
        defines: the macros that are defined when the source is compiled.
        name: the name of the kernel function.
    """

    family: str
    defines: Defines
    name: str


class Owned(NamedTuple):
    """A kernel object with one owner.

    Attributes:
        kernel: the kernel object.
        key: the kernel.
    """

    kernel: cl.Kernel
    key: KernelKey


class Builder:
    """Builds programs for one device when they are first needed.

    Args:
        context: the context of the device.
        name: the name of the device, for error messages.
    """

    def __init__(self, context: cl.Context, name: str = "") -> None:
        self._context = context
        self._device: cl.Device = context.devices[0]
        self._name = name or self._device.name
        self._driver_caches = self._device.platform.name == POCL
        self._built: dict[Key, cl.Program] = {}
        self._spare: dict[KernelKey, list[cl.Kernel]] = defaultdict(list)
        self._groups: dict[KernelKey, WorkGroup] = {}
        self._lock = Lock()

    def program(self, family: str, **defines: Define) -> cl.Program:
        """The program of `kernels/*/<family>.cl` with these defines.

        Raises:
            DeviceError: the driver cannot build it; the message quotes the driver.
        """
        return self._program((family, tuple(sorted(defines.items()))))

    def _program(self, key: Key) -> cl.Program:
        # Read without the lock, which another thread may hold for seconds to build.
        return self._built.get(key) or self._build_once(key)

    def _build_once(self, key: Key) -> cl.Program:
        with self._lock:
            if key not in self._built:
                built = self._build(*key)
                if len(self._built) >= MAX_PROGRAMS:
                    self._drop(next(iter(self._built)))
                self._built[key] = built
            return self._built[key]

    def kernel(self, key: KernelKey) -> Owned:
        """A kernel object that the caller owns until it calls `give_back`.

        Raises:
            DeviceError: the driver cannot build the program.
        """
        try:
            return Owned(self._spare[key].pop(), key)
        except IndexError:
            return Owned(cl.Kernel(self._program(key[:2]), key.name), key)

    def group(self, key: KernelKey) -> WorkGroup:
        """The work-items that a kernel allows, and the local memory that it declares.

        Raises:
            DeviceError: the driver cannot build the program.
        """
        group = self._groups.get(key)
        if group is None:
            # A new object, because the local memory of arguments counts once they are
            # set.
            kernel = cl.Kernel(self._program(key[:2]), key.name)
            group = self._groups[key] = group_of(kernel, self._device)
            self.give_back([Owned(kernel, key)])
        return group

    def give_back(self, kernels: Iterable[Owned]) -> None:
        """Return kernel objects that their owner will not launch again, for reuse."""
        for kernel, key in kernels:
            if key[:2] in self._built:
                self._spare[key].append(kernel)

    def _drop(self, key: Key) -> None:
        """Forget a program and its unused kernel objects."""
        del self._built[key]
        # Copies, because other threads may give some back.
        for kernels in (self._spare, self._groups):
            for kernel in list(kernels):
                if kernel[:2] == key:
                    kernels.pop(kernel, None)

    def _build(
        self, family: str, defines: tuple[tuple[str, Define], ...]
    ) -> cl.Program:
        options = [*OPTIONS, *(f"-D{name}={value}" for name, value in defines)]
        name = self._file_name(family, options)
        for folder in FOLDERS:
            options += ["-I", str(KERNELS / folder)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyopencl warns about compiler output
            try:
                return self._stored(name) or self._compiled(family, options, name)
            except cl.Error as error:
                raise DeviceError(
                    f"{self._name}: its driver cannot build {family}.cl: "
                    f"{_compiler_error(error)}"
                ) from error

    def _stored(self, name: str) -> cl.Program | None:
        """A program from the disk; None if there is none that the driver accepts."""
        binary = None if self._driver_caches else disk_cache.load(name)
        if binary is None:
            return None
        try:
            return self._built_of(cl.Program(self._context, [self._device], [binary]))
        except cl.Error:
            return None

    def _compiled(self, family: str, options: Sequence[str], name: str) -> cl.Program:
        program = cl.Program(self._context, source_path(f"{family}.cl").read_text())
        self._built_of(program, options)
        if not self._driver_caches:
            binaries = cast(list[bytes], program.get_info(cl.program_info.BINARIES))
            disk_cache.store(name, binaries[0])
        return program

    def _built_of(self, program: cl.Program, options: Sequence[str] = ()) -> cl.Program:
        # False disables pyopencl's own cache; its type hints do not allow it.
        with signals_blocked():
            program.build([*options], cache_dir=False)  # type: ignore[arg-type]
        return program

    def _file_name(self, family: str, options: Sequence[str]) -> str:
        parts = disk_cache.identity(self._device), source_text(f"{family}.cl"), *options
        return sha256("\0".join(parts).encode()).hexdigest() + ".bin"


@contextmanager
def failures_named(name: str) -> Iterator[None]:
    """Convert errors of the driver to DeviceErrors that name the device."""
    try:
        yield
    except cl.Error as error:
        raise DeviceError(f"{name}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an error of the driver, without the compiler's log."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _compiler_error(error: Exception) -> str:
    """The first line of an error, and the first error in the compiler's log."""
    errors = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return ": ".join([first_line(error), *errors[:1]])


def source_path(name: str) -> Path:
    """The path of a kernel source or header, from its file name."""
    return next(p for f in FOLDERS if (p := KERNELS / f / name).exists())


def source_text(name: str) -> str:
    """The text of a file and of all files that it includes."""
    text = source_path(name).read_text()
    included = re.findall(r'^ *#include "(.+)"', text, re.MULTILINE)
    return "\0".join([text, *map(source_text, included)])
