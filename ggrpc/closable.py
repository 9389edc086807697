"""The base class of objects that must be closed after use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

Self = TypeVar("Self", bound="Closable")


class Closable(ABC):
    """A context manager that calls `close` at the end of the block."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Release the resources of the object."""
