"""The cpu device, which uses numpy; importing this package registers its kernels."""

from __future__ import annotations

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.device import CpuDevice
from ggrpc.devices.cpu.ops import (  # noqa: F401
    activations,
    arithmetic,
    attention,
    backward,
    convolution,
    copies,
    deepseek,
    experts,
    generators,
    linear_attention,
    matmul,
    norms,
    optimizers,
    padding,
    patches,
    pooling,
    recurrent,
    reductions,
    rope,
    triangles,
    unfolding,
    upscaling,
    windows,
)

__all__ = ["CpuBuffer", "CpuDevice"]
