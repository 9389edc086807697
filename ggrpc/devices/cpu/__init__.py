"""The cpu device: one file a family of kernels, over numpy."""

from __future__ import annotations

from ggrpc.devices.cpu import (  # noqa: F401  they register their kernels
    activations,
    arithmetic,
    attention,
    copies,
    experts,
    generators,
    linear_attention,
    matmul,
    norms,
    patches,
    recurrent,
    reductions,
    rope,
    triangles,
)
from ggrpc.devices.cpu.device import CpuDevice

__all__ = ["CpuDevice"]
