"""Builds graphs; a method for each op derives the result from the op's contract."""

from __future__ import annotations

from ggrpc.building.builder import GraphBuilder

__all__ = ["GraphBuilder"]
