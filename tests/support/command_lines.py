"""A command line for every way in which a command of ggrpc uses a server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ggrpc.endpoint import Endpoint
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import V7_0_1, V8_0_0, Dialect
from tests.support.caches import write_gguf

C = Command

LINES = {
    "probe": "probe {server} --timeout {timeout:g}",
    "mem": "mem {server} --timeout {timeout:g}",
    "check": "check {server} --timeout {timeout:g}",
    "bench": "bench {server} --timeout {timeout:g} --rounds 1 --sizes 4K",
    "push": "push {array} {server} --timeout {timeout:g}",
    "push many": "push {arrays} {server} --timeout {timeout:g}",
    "push model": "push {model} {server} --timeout {timeout:g}",
    "push --hold": "push {array} {server} --hold --timeout {timeout:g}",
    "pull": "pull {server}",
    "shell": "shell {server} --timeout {timeout:g}",
    "replay": "replay {recording} {server} --timeout {timeout:g}",
    "record": "record 0 {server} -o {output} --force",
    "tunnel": "tunnel 0 {server}",
}
FORWARDING = ("record", "tunnel")  # they do nothing before a client connects
UNTIL_STOPPED = (*FORWARDING, "push --hold")
# What is typed in a shell.
SHELL = """
alloc q q4_0 32 2
set x '[[1, 2], [3, 4]]'
set y '[[1, 2], [3, 4]]'
node z mul_mat x y
compute
get z
mem
"""


OPENING = (C.HELLO, C.DEVICE_COUNT)
MEMORY = (C.ALLOC_BUFFER, C.BUFFER_GET_BASE)
# The protocol commands that each command of ggrpc sends.
ASKS: dict[str, tuple[Command, ...]] = {
    "probe": (*OPENING, C.GET_ALIGNMENT, C.GET_MAX_SIZE, C.GET_DEVICE_MEMORY),
    "mem": (*OPENING, C.GET_DEVICE_MEMORY),
    "check": (
        *(*OPENING, *MEMORY, C.GET_ALIGNMENT, C.GET_MAX_SIZE, C.GET_DEVICE_MEMORY),
        *(C.SET_TENSOR_HASH, C.GET_TENSOR, C.COPY_TENSOR, C.GET_ALLOC_SIZE),
        C.GET_DEVICE_SUPPORTS_OP,
    ),
    "bench": (
        *(*OPENING, *MEMORY, C.GET_ALIGNMENT, C.GET_TENSOR, C.COPY_TENSOR),
        C.GET_TENSOR_2D,
    ),
    "push": (*OPENING, *MEMORY, C.GET_TENSOR),
    "push model": (*OPENING, *MEMORY, C.SET_TENSOR_HASH),
    "shell": (
        *(*OPENING, *MEMORY, C.GET_ALLOC_SIZE, C.GET_TENSOR, C.GET_DEVICE_MEMORY),
        C.GET_DEVICE_SUPPORTS_OP,
    ),
    "replay": (*OPENING, *MEMORY, C.GET_TENSOR, C.GET_DEVICE_SUPPORTS_OP),
}


class Files(NamedTuple):
    """The files in the command lines."""

    array: Path
    arrays: Path
    model: Path
    recording: Path
    output: Path


def files_in(folder: Path, recording: Path) -> Files:
    """Write the files into a folder.

    Args:
        folder: the folder.
        recording: is there already; it fits the servers of the test.
    """
    array = folder / "array.npy"
    np.save(array, np.arange(1024, dtype=np.float32).reshape(16, 64))
    arrays = folder / "arrays.npz"
    np.savez(arrays, a=np.zeros(4), b=np.zeros(4))
    model = write_gguf(folder / "model.gguf", bytes(11 << 20))
    return Files(array, arrays, model, recording, folder / "output.bin")


def arguments(name: str, server: Endpoint, files: Files, timeout: float) -> list[str]:
    """A row of `LINES` for this server."""
    words = {"server": server, "timeout": timeout, **files._asdict()}
    return [word.format(**words) for word in LINES[name].split()]


def dialect_of(about: Command) -> Dialect:
    """A dialect in which the commands of `ASKS` send this one."""
    return V8_0_0 if about is C.GET_TENSOR_2D else V7_0_1
