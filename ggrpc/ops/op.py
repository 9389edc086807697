"""Moved to ggrpc.op (import from there; this file goes away)."""

from __future__ import annotations

from ggrpc.op import GluOp, Op, UnaryOp

__all__ = ["GluOp", "Op", "UnaryOp"]
