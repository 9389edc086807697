"""Writes `methods.pyi`, by which type checkers and editors know the ops' methods."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter

from ggrpc.building.signatures import Method, methods

HEAD = """# Made by `python docs/generate.py`: change `signatures.py`, not this.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

class Ops(ABC):
    @abstractmethod
    def node(
        self,
        op: Op,
        sources: Sequence[Tensor | None],
        params: Any = None,
        *,
        ne: Sequence[int] | None = None,
        type: GGMLType | None = None,
        over: Tensor | None = None,
        name: str = "",
    ) -> Tensor: ...
"""


def stub() -> str:
    """The text of the file."""
    return HEAD + "".join(map(_definition, methods()))


def _definition(method: Method) -> str:
    arguments = "".join(f"        {argument},\n" for argument in _arguments(method))
    return f"    def {method.name}(\n{arguments}    ) -> Tensor: ...\n"


def _arguments(method: Method) -> Iterator[str]:
    yield "self"
    keywords = False
    for parameter in method.signature.parameters.values():
        if parameter.kind is Parameter.KEYWORD_ONLY and not keywords:
            keywords = True
            yield "*"
        yield _argument(parameter)


def _argument(parameter: Parameter) -> str:
    kind = parameter.annotation
    text = (
        f"{parameter.name}: {kind.__name__ if isinstance(kind, type) else _text(kind)}"
    )
    if parameter.default is Parameter.empty:
        return text
    default = '""' if parameter.default == "" else repr(parameter.default)
    return f"{text} = {default}"


def _text(annotation: object) -> str:
    """A union, or what is text already."""
    parts = getattr(annotation, "__args__", None)
    if parts is None:
        return str(annotation)
    return " | ".join("None" if p is type(None) else p.__name__ for p in parts)
