"""The numbers of the commands. Source: `enum rpc_cmd` of ggml-rpc.cpp."""

from __future__ import annotations

from enum import IntEnum


class Command(IntEnum):
    """The commands; the low byte of each is the first byte of its request."""

    ALLOC_BUFFER = 0
    GET_ALIGNMENT = 1
    GET_MAX_SIZE = 2
    BUFFER_GET_BASE = 3
    FREE_BUFFER = 4
    BUFFER_CLEAR = 5
    SET_TENSOR = 6
    SET_TENSOR_HASH = 7
    GET_TENSOR = 8
    COPY_TENSOR = 9
    GRAPH_COMPUTE = 10
    GET_DEVICE_MEMORY = 11
    INIT_TENSOR = 12
    GET_ALLOC_SIZE = 13
    HELLO = 14
    DEVICE_COUNT = 15
    GRAPH_RECOMPUTE = 16
    MEMSET_TENSOR = 17
    SET_TENSOR_2D = 18
    GET_TENSOR_2D = 19
    COMM_INIT = 20
    COMM_ALLREDUCE = 21
    COMM_FREE = 22
    # 8.0.0 gave its number to GET_TENSOR_2D; no version has both.
    GET_DEVICE_SUPPORTS_OP = 0x100 | 19

    @property
    def number(self) -> int:
        """The number on the wire."""
        return self & 0xFF


def name_of(command: int) -> str:
    """The name of a command, or `command N` for an unknown number."""
    try:
        return Command(command).name
    except ValueError:
        return f"command {command}"
