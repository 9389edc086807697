"""The builder's methods for the ops, generated from `signatures`.

`methods.pyi` declares them for type checkers; `python docs/generate.py` writes it.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ggrpc.building.signatures import FREE_TYPE, Method, methods
from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType, type_names


class Ops(ABC):
    """A base class with a method for each op, which adds a node and returns it."""

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
    ) -> Tensor:
        """Add a node of any op."""


def _bound(method: Method) -> Callable[..., Tensor]:
    signature = method.signature

    def call(self: Ops, *args: Any, **kwargs: Any) -> Tensor:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        sources = [given[name] for name in method.sources]
        return self.node(
            method.contract.op,
            sources,
            method.params(given),
            ne=given.get("ne"),
            type=given["type"] if method.contract.op in FREE_TYPE else None,
            over=sources[0] if given.get("inplace") else None,
            name=given["name"],
        )

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    shown = signature.replace(parameters=[own, *signature.parameters.values()])
    call.__signature__ = shown  # type: ignore[attr-defined]
    call.__name__ = method.name
    call.__qualname__ = f"GraphBuilder.{method.name}"
    call.__doc__ = _doc(method)
    return call


def _doc(method: Method) -> str:
    """A docstring with the types of the sources, the parameters and the result."""
    contract = method.contract
    which = f", {method.function.name}" if method.function is not None else ""
    lines = [f"ggml's {contract.op.name}{which}.", "", "Args:"]
    for name, source in zip(method.sources, contract.sources, strict=True):
        absent = "; may be absent" if source.optional else ""
        lines.append(f"    {name}: {type_names(source.types)}{absent}.")
    if method.fields:
        lines += ["", f"Parameters: {inspect.cleandoc(contract.params.__doc__ or '')}"]
    lines += ["", f"Returns:\n    {type_names(contract.result)}."]
    return "\n".join(lines)


for _each in methods():
    setattr(Ops, _each.name, _bound(_each))
