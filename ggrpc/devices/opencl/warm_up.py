"""Prepares a device for its first client: compiles kernels, and measures launch sizes.

A driver takes tenths of a second to compile a kernel, and a model needs some twenty.
Which ones depends on the types of its weights, and little else. So graphs of a small
model, with the types and shapes that are common, are compiled and run beforehand. The
driver keeps what it has compiled on disk.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

from ggrpc.building.builder import GraphBuilder
from ggrpc.devices.device import Placed
from ggrpc.devices.opencl import tuning
from ggrpc.devices.opencl.runtime import disk_cache
from ggrpc.devices.opencl.runtime.build import KERNELS
from ggrpc.devices.opencl.tuning import Tunable
from ggrpc.errors import Cancelled, OutOfMemory
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

log = logging.getLogger(__name__)

F32, F16, I32, I64 = GGMLType.F32, GGMLType.F16, GGMLType.I32, GGMLType.I64
BASE, HANDLE = 1 << 40, 1
LAYERS, HEADS, KV_HEADS, KEYS = 2, 8, 2, 256
PROMPT = 32  # rows: enough for the largest tile
NICENESS = 10  # of the thread, so that sessions go first
DELAY_SECONDS = 2.0  # a client that comes at once finds the driver's compiler free
PAUSE_SECONDS = 0.2  # between two looks whether there are sessions
MIN_DISK = 64 << 20  # free bytes; what is compiled takes 5 MiB


class Model(NamedTuple):
    """The properties of a model that decide which kernels it needs.

    Attributes:
        weights: the type of most matrices.
        others: the type of the other matrices; mixtures such as Q4_K_M have two.
        width: the elements of an attention head.
    """

    weights: GGMLType
    others: GGMLType
    width: int


MODELS = (  # the most likely ones first
    Model(GGMLType.Q4_K, GGMLType.Q6_K, 128),
    Model(GGMLType.Q8_0, GGMLType.Q8_0, 64),
    Model(GGMLType.Q4_0, GGMLType.Q6_K, 128),
    Model(F16, F16, 64),
    Model(GGMLType.Q5_K, GGMLType.Q6_K, 128),
    Model(GGMLType.Q4_1, GGMLType.Q8_0, 64),
)


def warm_up(
    device: Tunable, stopped: Callable[[], bool], busy: Callable[[], bool]
) -> None:
    """Measure launch sizes if none are known, and compile kernels of common models.

    It pauses while there are sessions. Once all is compiled, later starts do nothing.

    Args:
        device: the device.
        stopped: whether to return soon.
        busy: whether there are sessions. They would wait for the driver's compiler.

    Raises:
        GgrpcError: the device failed.
    """
    with suppress(OSError):
        if sys.platform == "linux":  # elsewhere, its id may be that of a process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    start = time.monotonic()
    while time.monotonic() < start + DELAY_SECONDS and not stopped():
        time.sleep(PAUSE_SECONDS)
    _wait(stopped, busy)
    if disk_cache.free_bytes() < MIN_DISK:
        # PoCL ends the process if it cannot write.
        log.warning(
            "%s: too little disk space to compile kernels beforehand", device.name
        )
        return
    # First, because kernels are compiled for the sizes.
    if tuning.measure_unless_known(device, lambda: stopped() or busy()):
        log.info("%s: launch sizes measured", device.name)
    stamp = _stamp(device)
    if disk_cache.load(stamp) is not None:
        return
    try:
        is_complete = _compile(device, stopped, busy)
    except OutOfMemory:
        log.info("%s: too little memory to compile kernels beforehand", device.name)
        return
    if is_complete:
        log.info("%s: compiled the kernels of common models", device.name)
        disk_cache.store(stamp, b"compiled")


def _compile(
    device: Tunable, stopped: Callable[[], bool], busy: Callable[[], bool]
) -> bool:
    """Compile the kernels of all models; returns whether it was not stopped."""
    for graph, size in _graphs():
        _wait(stopped, busy)
        while not _run(device, graph, size, lambda: stopped() or busy()):
            if stopped():
                return False
            _wait(stopped, busy)
    return True


def _wait(stopped: Callable[[], bool], busy: Callable[[], bool]) -> None:
    """Wait until there are no sessions, or until the warm-up is stopped."""
    while busy() and not stopped():
        time.sleep(PAUSE_SECONDS)


def _stamp(device: Tunable) -> str:
    """The name of a file that says that the driver has the kernels on disk."""
    parts = [
        disk_cache.identity(device.queue.device),
        repr(device.traits),
        repr(MODELS),
    ]
    sources = sorted(path for path in KERNELS.rglob("*") if path.is_file())
    parts += [path.read_text() for path in sources]
    return sha256("\0".join(parts).encode()).hexdigest() + ".warm"


def _run(
    device: Tunable, graph: Graph, size: int, interrupted: Callable[[], bool]
) -> bool:
    """Compile a graph and run it once, with zeros as input.

    The driver compiles a kernel at its first launch. Until then sessions wait, and so
    does the stop of the server. So it can be interrupted after each kernel.

    Returns:
        Whether it was not interrupted.
    """

    def checkpoint() -> None:
        if interrupted():
            raise Cancelled("the warm-up was interrupted")

    buffer = device.allocate(size)
    try:
        buffer.fill(0, size, 0)
        buffers = {HANDLE: Placed(BASE, buffer)}
        program = device.compile_for(
            device.traits, graph, buffers, checkpoint=checkpoint
        )
        program.batch = 1
        program.run(checkpoint)
    except Cancelled:
        return False
    finally:
        buffer.free()
    return True


def _graphs() -> Iterator[tuple[Graph, int]]:
    """The graphs of a token and of a prompt of each model, and their sizes."""
    for model in MODELS:
        for tokens in (1, PROMPT):
            yield _graph(model, tokens).placed(HANDLE, BASE)


def _graph(model: Model, tokens: int) -> GraphBuilder:
    """A llama model of a few layers, as llama.cpp builds it."""
    g = GraphBuilder()
    n = HEADS * model.width
    positions = g.tensor(I32, tokens)
    cells = g.tensor(I64, tokens)
    mask = g.tensor(F16, KEYS, tokens)
    x = g.get_rows(g.tensor(model.weights, n, 64), g.tensor(I32, tokens))
    for _ in range(LAYERS):
        attended = _attention(g, model, _norm(g, x), positions, cells, mask)
        x = g.add(g.mul_mat(g.tensor(model.weights, n, n), attended), x)
        y = _norm(g, x)
        gate = g.mul_mat(g.tensor(model.weights, n, 2 * n), y)
        up = g.mul_mat(g.tensor(model.weights, n, 2 * n), y)
        x = g.add(g.mul_mat(g.tensor(model.others, 2 * n, n), g.swiglu(gate, up)), x)
    last = g.get_rows(x, g.tensor(I32, 1))
    g.mul_mat(g.tensor(model.others, n, 64), _norm(g, last))
    return g


def _norm(g: GraphBuilder, x: Tensor) -> Tensor:
    return g.mul(g.rms_norm(x, eps=1e-5), g.tensor(F32, x.ne[0]))


def _attention(
    g: GraphBuilder,
    model: Model,
    x: Tensor,
    positions: Tensor,
    cells: Tensor,
    mask: Tensor,
) -> Tensor:
    """Attention over a cache of keys and values in F16."""
    width, tokens, n = model.width, x.ne[1], HEADS * model.width
    small = KV_HEADS * width

    def rotated(matrix: Tensor, heads: int) -> Tensor:
        projected = g.reshape(g.mul_mat(matrix, x), width, heads, tokens)
        return g.rope(projected, positions, n_dims=width)

    def kept(rows: Tensor) -> Tensor:
        cache = g.tensor(F16, small, KEYS)
        g.set_rows(cache, g.reshape(rows, small, tokens), cells)
        strides = (2 * width, 2 * small)
        return g.permute(g.view(cache, (width, KV_HEADS, KEYS), strides), 0, 2, 1)

    q = rotated(g.tensor(model.weights, n, n), HEADS)
    v = g.mul_mat(g.tensor(model.others, n, small), x)
    k = rotated(g.tensor(model.weights, n, small), KV_HEADS)
    keys, values = kept(k), kept(v)
    attended = g.flash_attn_ext(
        g.permute(q, 0, 2, 1), keys, values, mask, scale=width**-0.5
    )
    return g.reshape(attended, n, tokens)
