"""The runnable program of an OpenCL device: a flat list of calls without arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import pyopencl as cl

from ggrpc.devices.device import Program, no_checkpoint
from ggrpc.devices.opencl.runtime.build import failures_named
from ggrpc.devices.opencl.runtime.program_memory import ProgramMemory
from ggrpc.devices.opencl.runtime.signals import signals_blocked
from ggrpc.devices.profile import Profile
from ggrpc.errors import GraphError
from ggrpc.ops import Node

# A call that enqueues a kernel or a copy and returns its event, or that runs on the
# host.
Step = Callable[[], object]

# Steps between two checkpoints, by default. The queue must be empty at each, because
# another program may use the device then. Waiting for it takes as long as ten launches.
BATCH = 128

# The rows of a profile for the host's work, apart from computing.
QUEUE, WAIT, MOVE = "queue kernels", "wait for the device", "move tensors"


class Fault:
    """Two int32: the number of a node, counted from 1, and an index out of range.

    A kernel that reads such an index writes both.

    Args:
        queue: the queue that the kernels use.
        is_shared: whether kernels write to the memory of this process.

    Attributes:
        buffer: the argument for kernels.
    """

    def __init__(self, queue: cl.CommandQueue, is_shared: bool) -> None:
        self._queue = queue
        self._is_shared = is_shared
        self._values = np.zeros(2, np.int32)
        where = cl.mem_flags.USE_HOST_PTR if is_shared else cl.mem_flags.COPY_HOST_PTR
        flags = cl.mem_flags.READ_WRITE | where
        self.buffer = cl.Buffer(queue.context, flags, hostbuf=self._values)

    def take(self) -> tuple[int, int] | None:
        """Clear and return the fault of kernels that have ended; None without one."""
        if not self._is_shared:
            cl.enqueue_copy(self._queue, self._values, self.buffer)
        if not self._values[0]:
            return None
        number, index = map(int, self._values)
        self._values[:] = 0
        if not self._is_shared:
            cl.enqueue_copy(self._queue, self.buffer, self._values)
        return number, index


class OpenClProgram(Program):
    """Steps that run one after the other: launches, and programs of the cpu device.

    Args:
        name: the name of the device, for error messages.
        queue: the queue that the steps use.
        steps: the calls.
        nodes: the graph's nodes, to which the numbers in the fault buffer refer.
        fault: where kernels report an index out of range; None if no kernel does.
        memory: the program's memory and the buffers that kernel arguments refer to;
            it lives as long as the program.
        labels: for each step, its row in a profile.

    Attributes:
        batch: the number of steps between two checkpoints.
    """

    def __init__(
        self,
        name: str,
        queue: cl.CommandQueue,
        steps: Sequence[Step],
        nodes: Sequence[Node],
        fault: Fault | None,
        memory: ProgramMemory | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self.steps = tuple(steps)
        self.labels = tuple(labels)
        self.batch = BATCH
        self._name = name
        self._queue = queue
        self._nodes = nodes
        self._fault = fault
        self._has_run = False
        self._memory = memory

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        self._run(self._run_batch, checkpoint)

    def run_timed(
        self, profile: Profile, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        """See `Program`. The times of kernels come from the device's own clock."""
        with profile.run():
            self._run(partial(self._run_timed_batch, profile), checkpoint)

    def _run_batch(self, at: int) -> None:
        """Run one batch of steps, starting with the step at an index."""
        for step in self.steps[at : at + self.batch]:
            step()
        self._queue.finish()

    def _run_timed_batch(self, profile: Profile, at: int) -> None:
        launched = []
        batch = slice(at, at + self.batch)
        for label, step in zip(self.labels[batch], self.steps[batch], strict=True):
            start = time.perf_counter()
            event = step()
            seconds = time.perf_counter() - start
            if isinstance(event, cl.Event):
                launched.append((label, event))
                label = QUEUE
            profile.add(label, seconds)
        with profile.timing(WAIT):
            self._queue.finish()
        for label, event in launched:
            nanoseconds = event.profile.end - event.profile.start
            profile.add(label, nanoseconds * 1e-9, on_device=True)

    def _run(
        self, run_batch: Callable[[int], None], checkpoint: Callable[[], None]
    ) -> None:
        # The first launch of a kernel links it, with child processes.
        quiet = nullcontext if self._has_run else signals_blocked
        with failures_named(self._name):
            try:
                for at in range(0, len(self.steps), self.batch):
                    with quiet():
                        run_batch(at)
                    checkpoint()
            finally:
                self._queue.finish()  # the buffers may be freed after this
            self._has_run = True
            found = self._fault.take() if self._fault else None
        if found:
            number, index = found
            raise GraphError(
                f"{self._nodes[number - 1].tensor}: index {index} is out of range"
            )
