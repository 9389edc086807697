"""The runnable program of an OpenCL device: a flat list of calls without arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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

# Steps between two checkpoints. The queue must be empty at a checkpoint, because
# another program may use the device then. Waiting for it takes as long as ten launches.
BATCH = 128

# The rows of a profile for the host's work, apart from computing.
QUEUE, WAIT, MOVE = "queue kernels", "wait for the device", "move tensors"


class OpenClProgram(Program):
    """Steps that run one after the other: launches, and programs of the cpu device.

    Args:
        name: the name of the device, for error messages.
        queue: the queue that the steps use.
        steps: the calls.
        nodes: the graph's nodes, to which the numbers in the fault buffer refer.
        fault: two int32. A kernel that reads an index out of range writes the number
            of its node, counted from 1, and the index.
        memory: the program's memory and the buffers that kernel arguments refer to;
            it lives as long as the program.
        labels: for each step, its row in a profile.
    """

    def __init__(
        self,
        name: str,
        queue: cl.CommandQueue,
        steps: Sequence[Step],
        nodes: Sequence[Node],
        fault: cl.Buffer,
        memory: ProgramMemory | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self.steps = tuple(steps)
        self.labels = tuple(labels)
        self._name = name
        self._queue = queue
        self._nodes = nodes
        self._fault_buffer = fault
        self._memory = memory
        self._fault = np.zeros(2, np.int32)

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
        for step in self.steps[at : at + BATCH]:
            step()
        self._queue.finish()

    def _run_timed_batch(self, profile: Profile, at: int) -> None:
        launched = []
        batch = slice(at, at + BATCH)
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
        with failures_named(self._name):
            try:
                for at in range(0, len(self.steps), BATCH):
                    with signals_blocked():  # the first launch of a kernel links it
                        run_batch(at)
                    checkpoint()
                cl.enqueue_copy(self._queue, self._fault, self._fault_buffer)
            finally:
                self._queue.finish()  # the buffers may be freed after this
        if self._fault[0]:
            self._raise_fault()

    def _raise_fault(self) -> None:
        """Clear the fault buffer and raise the fault.

        Raises:
            GraphError: always; the message names the node and the index.
        """
        number, index = map(int, self._fault)
        cl.enqueue_copy(self._queue, self._fault_buffer, np.zeros_like(self._fault))
        raise GraphError(
            f"{self._nodes[number - 1].tensor}: index {index} is out of range"
        )
