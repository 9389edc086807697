"""Operate fleets of ggml RPC servers.

The library: connect to servers, keep tensors on devices, build graphs and compute them.
docs/library.md shows how. Each name is loaded when it is first used, so that the
command line need not wait for numpy.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# OpenBLAS reads this once, when numpy is first imported: log2 of the ticks for which
# its threads keep a processor busy after each product. Its own 26 is some 20 ms, in
# which everybody else's threads, ours included, run at a fraction of their speed.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")

if TYPE_CHECKING:
    from ggrpc.building import GraphBuilder
    from ggrpc.devices.device import Device, Memory
    from ggrpc.endpoint import Endpoint
    from ggrpc.engine.client.registry import Registry, connect, is_rpc
    from ggrpc.engine.client.remote_device import RemoteDevice, RemoteServer
    from ggrpc.engine.compute.computation import Computation, compute
    from ggrpc.engine.compute.device_tensor import DeviceTensor
    from ggrpc.engine.server.background import BackgroundServer, start_server
    from ggrpc.errors import GgrpcError
    from ggrpc.formats.numpy_values import dequantize, quantize
    from ggrpc.op import GluOp, Op, UnaryOp
    from ggrpc.tensor import Tensor
    from ggrpc.types import GGMLType

_HOMES = {
    "ggrpc.building": ("GraphBuilder",),
    "ggrpc.devices.device": ("Device", "Memory"),
    "ggrpc.endpoint": ("Endpoint",),
    "ggrpc.engine.compute.computation": ("Computation", "compute"),
    "ggrpc.engine.server.background": ("BackgroundServer", "start_server"),
    "ggrpc.engine.client.registry": ("Registry", "connect", "is_rpc"),
    "ggrpc.engine.client.remote_device": ("RemoteDevice", "RemoteServer"),
    "ggrpc.engine.compute.device_tensor": ("DeviceTensor",),
    "ggrpc.formats.numpy_values": ("dequantize", "quantize"),
    "ggrpc.errors": ("GgrpcError",),
    "ggrpc.op": ("GluOp", "Op", "UnaryOp"),
    "ggrpc.tensor": ("Tensor",),
    "ggrpc.types": ("GGMLType",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BackgroundServer",
    "Computation",
    "Device",
    "DeviceTensor",
    "Endpoint",
    "GGMLType",
    "GgrpcError",
    "GluOp",
    "GraphBuilder",
    "Memory",
    "Op",
    "Registry",
    "RemoteDevice",
    "RemoteServer",
    "Tensor",
    "UnaryOp",
    "compute",
    "connect",
    "dequantize",
    "is_rpc",
    "quantize",
    "start_server",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'ggrpc' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
