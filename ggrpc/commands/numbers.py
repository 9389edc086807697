"""Validation of numbers on the command line."""

from __future__ import annotations

import math

import typer


def finite(value: float | None) -> float | None:
    """The callback of options that take a number, of which `nan` and `inf` are none.

    Raises:
        typer.BadParameter: the value is one of these.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value
