"""Checks replies against their requests, before a client uses a number in them.

The layout has already checked the size of a reply. These rules check the values,
because a server may be faulty, hostile, or not a ggml RPC server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ggrpc.engine.wire import messages as m
from ggrpc.errors import RemoteProtocolError

# llama.cpp uses at most 16 devices in total (GGML_SCHED_MAX_BACKENDS).
MAX_DEVICES = 64
# Devices align to a page at most. Sizes are rounded up to a multiple of the alignment.
MAX_ALIGNMENT = 1 << 24
ADDRESSES = 1 << 64
# More than any machine has; sums of such sizes still fit into the 64 bits of a request.
MAX_ALLOC_SIZE = 1 << 56


class ReplyRules:
    """Checks the replies on one connection. It remembers the sizes of buffers."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}

    def check(self, request: m.Request, reply: m.Reply) -> None:
        """Check a reply.

        Raises:
            RemoteProtocolError: the reply cannot be true.
        """
        fault = None
        if isinstance(request, m.BufferGetBase) and isinstance(reply, m.Base):
            fault = _base(reply.base_ptr, self._sizes.get(request.remote_ptr, 0))
        elif rule := _RULES.get(type(request)):
            fault = rule(request, reply)
        if fault:
            name = request.command.name
            raise RemoteProtocolError(f"the reply to {name} cannot be true: {fault}")
        if isinstance(request, m.AllocBuffer) and isinstance(reply, m.Allocated):
            self._sizes[reply.remote_ptr] = request.size

    def sent(self, request: m.Request) -> None:
        """Record that a request was sent."""
        if isinstance(request, m.FreeBuffer):
            self._sizes.pop(request.remote_ptr, None)


def _base(base: int, size: int) -> str | None:
    if not base or base + size > ADDRESSES:
        return f"a buffer of {size} bytes at address {base:#x}"
    return None


def _allocated(request: m.AllocBuffer, reply: m.Allocated) -> str | None:
    if reply.remote_ptr and reply.remote_size < request.size:
        return f"a buffer of {reply.remote_size} bytes instead of {request.size}"
    return None


def _alignment(request: m.GetAlignment, reply: m.Alignment) -> str | None:
    if not 1 <= reply.alignment <= MAX_ALIGNMENT:
        return f"an alignment of {reply.alignment} bytes"
    return None


def _count(request: m.DeviceCount, reply: m.Count) -> str | None:
    if reply.device_count > MAX_DEVICES:
        return f"{reply.device_count} devices, more than {MAX_DEVICES}"
    return None


def _alloc_size(request: m.GetAllocSize, reply: m.AllocSize) -> str | None:
    if not request.tensor.nbytes <= reply.alloc_size <= MAX_ALLOC_SIZE:
        return f"{reply.alloc_size} bytes for a tensor of {request.tensor.nbytes}"
    return None


def _data(request: m.GetTensor | m.GetTensor2D, reply: m.TensorData) -> str | None:
    rows = request.n_copies if isinstance(request, m.GetTensor2D) else 1
    if reply.size != request.size * rows:
        return f"{reply.size} bytes of data instead of {request.size * rows}"
    return None


def _result(request: m.Request, reply: m.Result) -> str | None:
    return None if reply.result in (0, 1) else f"{reply.result} instead of 0 or 1"


_RULES: dict[type[m.Request], Callable[[Any, Any], str | None]] = {
    m.AllocBuffer: _allocated,
    m.GetAlignment: _alignment,
    m.DeviceCount: _count,
    m.GetAllocSize: _alloc_size,
    m.GetTensor: _data,
    m.GetTensor2D: _data,
    m.SetTensorHash: _result,
    m.CopyTensor: _result,
    m.GetDeviceSupportsOp: _result,
    m.CommInit: _result,
}
