"""What several nodes of a graph have in common: made once, dropped when stale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from ggrpc.tensor import Tensor

Made = TypeVar("Made")


class Shared:
    """Work that a compiler does for the first node that wants it, and then knows."""

    def __init__(self) -> None:
        self._made: dict[object, tuple[Any, list[_Span]]] = {}

    def get(
        self, key: object, tensors: Sequence[Tensor], make: Callable[[], Made]
    ) -> Made:
        """What was made under a key, or else what `make` makes.

        Args:
            key: equal for equal work.
            tensors: what it is made from.
            make: does the work.
        """
        found = self._made.get(key)
        if found is None:
            found = make(), [_Span.of(tensor) for tensor in tensors]
            self._made[key] = found
        return cast(Made, found[0])

    def overwritten(self, tensor: Tensor) -> None:
        """A node wrote here: drop what was made from any of these bytes."""
        written = _Span.of(tensor)
        stale = [
            key
            for key, (_, spans) in self._made.items()
            if any(span.overlaps(written) for span in spans)
        ]
        for key in stale:
            del self._made[key]


def overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have a byte in common, as far as their ends tell."""
    return _Span.of(a).overlaps(_Span.of(b))


class _Span(NamedTuple):
    """Addresses of one buffer."""

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
