"""The runnable program of the cpu device: a flat list of calls without arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ggrpc.devices.cpu.scratch import Scratch
from ggrpc.devices.cpu.workers import Step
from ggrpc.devices.device import Program, no_checkpoint
from ggrpc.devices.profile import Profile
from ggrpc.errors import OutOfMemory

# Steps between two checkpoints. A checkpoint takes a tenth of the time of a small step.
BATCH = 8


class CpuProgram(Program):
    """Steps that run one after the other, in one thread at a time.

    Args:
        steps: the calls.
        ops: for each step, the name of the op that it belongs to.
        memory: the scratch memory of the steps; it lives as long as the program.
    """

    def __init__(
        self, steps: Sequence[Step], ops: Sequence[str], memory: Sequence[Scratch]
    ) -> None:
        self.steps = tuple(steps)
        self._memory = memory
        self._ops = ops
        self._batches = [
            self.steps[at : at + BATCH] for at in range(0, len(steps), BATCH)
        ]

    @property
    def ops(self) -> list[str]:
        """The names of the ops that the program computes, without duplicates."""
        return list(dict.fromkeys(self._ops))

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        with _arithmetic():
            for batch in self._batches:
                for step in batch:
                    step()
                checkpoint()

    def run_timed(
        self, profile: Profile, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        with profile.run(), _arithmetic():
            for op, step in zip(self._ops, self.steps, strict=True):
                with profile.timing(op):
                    step()
                checkpoint()


@contextmanager
def _arithmetic() -> Iterator[None]:
    """Run the body without numpy's warnings: inf and NaN are valid in ggml."""
    try:
        with np.errstate(all="ignore"):
            yield
    except MemoryError as error:
        raise OutOfMemory(f"out of memory while running a graph: {error}") from error
