"""Intermediate results that several nodes of a graph share until an input changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from ggrpc.tensor import Tensor

Made = TypeVar("Made")


class SharedResults:
    """A compiler's cache of intermediate results that several nodes need."""

    def __init__(self) -> None:
        self._made: dict[object, tuple[Any, list[_Span]]] = {}

    def get(
        self, key: object, tensors: Sequence[Tensor], make: Callable[[], Made]
    ) -> Made:
        """Return the result stored under a key; the first call creates it with `make`.

        Args:
            key: equal keys mean equal results.
            tensors: the inputs of the result.
            make: creates the result.
        """
        found = self._made.get(key)
        if found is None:
            found = make(), [_Span.of(tensor) for tensor in tensors]
            self._made[key] = found
        return cast(Made, found[0])

    def overwritten(self, tensor: Tensor) -> None:
        """Drop all results with an input that overlaps an overwritten tensor."""
        written = _Span.of(tensor)
        stale = [
            key
            for key, (_, spans) in self._made.items()
            if any(span.overlaps(written) for span in spans)
        ]
        for key in stale:
            del self._made[key]


def disjoint(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors share no memory; gaps between rows belong to a tensor."""
    if a.buffer != b.buffer:
        return True
    first, second = (a, b) if a.data <= b.data else (b, a)
    return first.data + first.nbytes <= second.data or not second.nbytes


class _Span(NamedTuple):
    """A range of addresses in a buffer."""

    buffer: int
    start: int
    stop: int

    @classmethod
    def of(cls, tensor: Tensor) -> _Span:
        return cls(tensor.buffer, tensor.data, tensor.data + tensor.nbytes)

    def overlaps(self, other: _Span) -> bool:
        return (
            self.buffer == other.buffer
            and self.start < other.stop
            and other.start < self.stop
        )
