"""An OpenCL device, which owns the context and the queue, and accounts for memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import RLock
from typing import TypeVar

import pyopencl as cl

from ggrpc.devices.block_hash import BlockHash
from ggrpc.devices.cpu import CpuBuffer, CpuDevice
from ggrpc.devices.device import Device, Memory, Placed, no_checkpoint
from ggrpc.devices.opencl import rivals
from ggrpc.devices.opencl.compiler import Compiler, Target
from ggrpc.devices.opencl.fusions import FUSIONS
from ggrpc.devices.opencl.program import OpenClProgram
from ggrpc.devices.opencl.runtime.block_hash import CpuHash, OpenClChunks
from ggrpc.devices.opencl.runtime.buffer import (
    READ_WRITE,
    DeviceBuffer,
    OpenClBuffer,
    SharedBuffer,
)
from ggrpc.devices.opencl.runtime.build import Builder, failures_named, first_line
from ggrpc.devices.opencl.runtime.discovery import Found
from ggrpc.devices.opencl.runtime.program_memory import ProgramMemory
from ggrpc.devices.opencl.runtime.traits import Traits, traits_of
from ggrpc.devices.opencl.warm_up import warm_up
from ggrpc.errors import DeviceError, OutOfMemory
from ggrpc.graph import Graph
from ggrpc.ops import Node

GIB = 1 << 30
Made = TypeVar("Made")
PROFILING = cl.command_queue_properties.PROFILING_ENABLE


class OpenClDevice(Device):
    """A device of an OpenCL driver.

    Args:
        found: the device.
        cpu: computes nodes without an OpenCL kernel, and accounts for the host's
            memory. It is closed with this device.
        traits: the properties of the device; None queries the driver.
        profiling: whether programs may be profiled, which enables timing in the queue.

    Attributes:
        cpu: the cpu device.
        traits: the properties of the device.
        queue: the in-order queue of all programs.
        builder: builds the kernels.

    Raises:
        DeviceError: the driver cannot create a context or a queue.
    """

    def __init__(
        self,
        found: Found,
        cpu: CpuDevice,
        traits: Traits | None = None,
        profiling: bool = False,
    ) -> None:
        self.name = found.name
        self.description = found.description
        self.max_size = found.largest
        self.alignment = max(cpu.alignment, found.device.mem_base_addr_align // 8)
        self.cpu = cpu
        self.traits = traits or traits_of(found.device)
        self._total = found.total
        self._handed_out = 0
        # Reentrant, because a finalizer that returns memory may run at any time.
        self._handing_out = RLock()
        with failures_named(self.name):
            self._context = cl.Context([found.device])
            self.queue = _queue(self._context, profiling)
        self.builder = Builder(self._context, self.name)

    def memory(self) -> Memory:
        if self.traits.shares_memory:
            return self.cpu.memory()
        return Memory(max(0, self._total - self._handed_out), self._total)

    def allocate(self, size: int) -> OpenClBuffer:
        if size > self.max_size:
            raise OutOfMemory(
                f"{self.name}: {size / GIB:.2f} GiB requested for one buffer, but the "
                f"driver allows {self.max_size / GIB:.2f} GiB; place fewer layers on "
                "this server"
            )
        if self.traits.shares_memory:
            return self._allocate_shared(size)
        return self._allocate_own(size)

    def block_hash(self) -> BlockHash:
        hashes = CpuHash if self.traits.is_cpu else OpenClChunks
        return hashes(self._context, self.builder, self.name)

    def supports(self, node: Node) -> bool:
        return self.cpu.supports(node)

    def warm_up(self, stopped: Callable[[], bool], busy: Callable[[], bool]) -> None:
        warm_up(self, stopped, busy)
        if self.traits.is_cpu:
            rivals.measure(self.queue.device, stopped, busy)

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> OpenClProgram:
        return self.compile_for(self.traits, graph, buffers)

    def compile_for(
        self,
        traits: Traits,
        graph: Graph,
        buffers: Mapping[int, Placed],
        exact: bool = False,
        checkpoint: Callable[[], None] = no_checkpoint,
    ) -> OpenClProgram:
        """Compile a graph as `compile` does, with more choices.

        Args:
            traits: the traits to compile for, to compare them.
            graph: the graph to compile.
            buffers: the buffers, by handle.
            exact: whether a work-group that the device does not allow is an error.
            checkpoint: called before each launch is compiled; it may raise to cancel.

        Raises:
            DeviceError: the device does not allow the work-groups of the traits.
        """
        target = Target(
            self.name,
            traits,
            self.queue,
            self.builder,
            FUSIONS,
            self.program_memory,
            self.cpu.compiler,
            exact,
            checkpoint,
        )
        return Compiler(target, buffers).program(graph)

    def close(self) -> None:
        """Release the threads and the memory of the cpu device: see `Device.close`."""
        self.cpu.close()

    def _allocate_shared(self, size: int) -> OpenClBuffer:
        host = self.cpu.allocate(size)
        try:
            return SharedBuffer(host, self._context)
        except cl.Error as error:
            host.free()
            raise self._out_of_memory(size, first_line(error)) from error

    def _allocate_own(self, size: int) -> OpenClBuffer:
        return self._hand_out(
            size,
            partial(
                DeviceBuffer, size, self.name, self.queue, self._shadow, self._freed
            ),
        )

    def _hand_out(self, size: int, make: Callable[[], Made]) -> Made:
        """Call a function that allocates this many bytes of the device's own memory.

        Raises:
            OutOfMemory: the device does not have enough free memory, or the driver
                cannot allocate it.
        """
        with self._handing_out:
            free = self.memory().free
            if size > free:
                raise self._out_of_memory(size, f"{free / GIB:.2f} GiB are free")
            try:
                made = make()
            except (cl.Error, DeviceError) as error:
                raise self._out_of_memory(size, first_line(error)) from error
            self._handed_out += size
        return made

    def program_memory(self, buffers: int) -> ProgramMemory:
        """Create the memory of one program.

        Args:
            buffers: the total size of the session's buffers in bytes, which limits the
                memory.
        """
        shared = self.traits.shares_memory
        hand_out = self.cpu.hand_out if shared else self._hand_out

        def take(size: int) -> cl.Buffer:
            make = partial(cl.Buffer, self._context, READ_WRITE, max(size, 1))
            try:
                return hand_out(size, make)
            except cl.Error as error:
                raise self._out_of_memory(size, first_line(error)) from error

        return ProgramMemory(
            take, self.cpu.take_back if shared else self._freed, buffers
        )

    def _shadow(self, size: int) -> CpuBuffer:
        weights = self.cpu.weights
        try:
            return CpuBuffer(size, weights.changed, weights.freed)
        except MemoryError as error:
            raise DeviceError(
                f"{self.name}: the host cannot allocate {size / GIB:.2f} GiB for ops "
                f"without an OpenCL kernel: {error}"
            ) from error

    def _freed(self, size: int) -> None:
        with self._handing_out:
            self._handed_out -= size

    def _out_of_memory(self, size: int, reason: str) -> OutOfMemory:
        return OutOfMemory(
            f"{self.name}: {size / GIB:.2f} GiB requested, but {reason}; place fewer "
            "layers on this server"
        )


def _queue(context: cl.Context, profiling: bool) -> cl.CommandQueue:
    if profiling:
        return cl.CommandQueue(context, properties=PROFILING)
    return cl.CommandQueue(context)
