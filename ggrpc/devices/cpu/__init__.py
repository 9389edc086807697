"""The cpu device: one file a family of kernels, over numpy."""

from __future__ import annotations

from ggrpc.devices.cpu.device import CpuDevice

__all__ = ["CpuDevice"]
