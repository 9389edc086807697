from __future__ import annotations

import pytest

from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.reply_rules import MAX_DEVICES, ReplyRules
from ggrpc.errors import RemoteProtocolError
from ggrpc.formats.numpy_values import contiguous_tensor
from ggrpc.types import GGMLType

TENSOR = contiguous_tensor(GGMLType.F32, (96, 3, 1, 1))
ALLOC = m.AllocBuffer(size=100)
BASE = m.BufferGetBase(remote_ptr=7)
ALLOC_SIZE = m.GetAllocSize(tensor=TENSOR)
GET = m.GetTensor(tensor=TENSOR, offset=0, size=100)
ROWS = m.GetTensor2D(tensor=TENSOR, offset=0, size=10, n_copies=10, stride=20)
HASH = m.SetTensorHash(tensor=TENSOR, offset=0, hash=1)
COPY = m.CopyTensor(src=TENSOR, dst=TENSOR)
SUPPORTS = m.GetDeviceSupportsOp(tensor=TENSOR)
COMM = m.CommInit(device=0, rank=0, world=2, port=1)
BUFFER = m.Allocated(remote_ptr=7, remote_size=100)

POSSIBLE: list[tuple[m.Request, m.Reply]] = [
    (ALLOC, BUFFER),
    (ALLOC, m.Allocated(remote_ptr=7, remote_size=4096)),
    (ALLOC, m.Allocated(remote_ptr=0, remote_size=0)),
    (BASE, m.Base(base_ptr=1)),
    (BASE, m.Base(base_ptr=2**64 - 100)),
    (m.GetAlignment(), m.Alignment(alignment=1)),
    (m.GetAlignment(), m.Alignment(alignment=48)),  # wrong, but `check` shows it
    (m.GetAlignment(), m.Alignment(alignment=1 << 16)),
    (m.GetMaxSize(), m.MaxSize(max_size=2**64 - 1)),
    (m.GetDeviceMemory(), m.DeviceMemory(free=2**64 - 1, total=0)),
    (m.DeviceCount(), m.Count(device_count=0)),
    (m.DeviceCount(), m.Count(device_count=MAX_DEVICES)),
    (ALLOC_SIZE, m.AllocSize(alloc_size=TENSOR.nbytes)),
    (GET, m.TensorData(size=100)),
    (ROWS, m.TensorData(size=100)),
    *((request, m.Result(result=1)) for request in (HASH, COPY, SUPPORTS, COMM)),
]
IMPOSSIBLE: list[tuple[m.Request, m.Reply]] = [
    (ALLOC, m.Allocated(remote_ptr=7, remote_size=99)),
    (ALLOC, m.Allocated(remote_ptr=7, remote_size=0)),
    (BASE, m.Base(base_ptr=0)),
    (BASE, m.Base(base_ptr=2**64 - 99)),
    (BASE, m.Base(base_ptr=2**64 - 1)),
    (m.GetAlignment(), m.Alignment(alignment=0)),
    (m.GetAlignment(), m.Alignment(alignment=2**63)),
    (m.DeviceCount(), m.Count(device_count=MAX_DEVICES + 1)),
    (m.DeviceCount(), m.Count(device_count=2**32 - 1)),
    (ALLOC_SIZE, m.AllocSize(alloc_size=0)),
    (ALLOC_SIZE, m.AllocSize(alloc_size=TENSOR.nbytes - 1)),
    (ALLOC_SIZE, m.AllocSize(alloc_size=2**63)),
    *((GET, m.TensorData(size=size)) for size in (0, 99, 101, 2**63)),
    *((ROWS, m.TensorData(size=size)) for size in (10, 99, 101)),
    *((request, m.Result(result=2)) for request in (HASH, COPY, SUPPORTS, COMM)),
]


def checked(request: m.Request, reply: m.Reply) -> None:
    rules = ReplyRules()
    rules.check(ALLOC, BUFFER)
    rules.check(request, reply)


@pytest.mark.parametrize(("request_", "reply"), POSSIBLE)
def test_reply_may_be_true(request_: m.Request, reply: m.Reply) -> None:
    checked(request_, reply)


@pytest.mark.parametrize(("request_", "reply"), IMPOSSIBLE)
def test_reply_cannot_be_true(request_: m.Request, reply: m.Reply) -> None:
    name = request_.command.name
    with pytest.raises(RemoteProtocolError, match=f"to {name} cannot be true: "):
        checked(request_, reply)


def test_freed_buffer_is_forgotten() -> None:
    rules = ReplyRules()
    rules.check(ALLOC, BUFFER)
    rules.sent(m.FreeBuffer(remote_ptr=7))
    rules.check(BASE, m.Base(base_ptr=2**64 - 1))
