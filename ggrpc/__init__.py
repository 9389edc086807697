"""Operate fleets of ggml RPC servers.

This package exports the library: connect to servers, store tensors on devices, build
graphs and compute them; see docs/library.md. Names are imported on first use, so that
the command line starts without numpy.
"""

from __future__ import annotations

import os
from importlib import import_module

__version__ = "0.1.0"

# The log2 of the clock ticks for which OpenBLAS's threads busy-wait after each product.
# Its default of 26 (about 20 ms) slows down all other threads of the machine. OpenBLAS
# reads the variable once, when numpy is first imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")

TYPE_CHECKING = False  # to import typing takes as long as all else here

if TYPE_CHECKING:
    from typing import Any

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

_EXPORTS = {
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
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

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
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'ggrpc' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
