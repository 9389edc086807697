"""Rejects numbers on the command line that are not finite."""

from __future__ import annotations

import math

import typer


def finite(value: float | None) -> float | None:
    """A callback for options with a number, which must not be `nan` or `inf`.

    Raises:
        typer.BadParameter: the value is infinite or NaN.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value
