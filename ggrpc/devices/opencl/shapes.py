"""How kernels share their work out: what is measured, not known, to be good."""

from __future__ import annotations

from typing import NamedTuple


class Shapes(NamedTuple):
    """Of the products of matrices; powers of two all of them.

    Attributes:
        bands: work-groups of a processor's matrix-vector product for each unit, so that
            none waits for the other long.
        tile: rows of b that a processor multiplies at once at most: so many sums fit
            its registers beside the rest.
        items: work-items of a GPU's matrix-vector product,
        rows: and rows of the matrix that they read side by side.
        tile_rows: rows of the matrix in a tile of a GPU's product of matrices,
        tile_tokens: rows of b,
        depth: and columns, in sixteens.
    """

    bands: int = 8
    tile: int = 8
    items: int = 64
    rows: int = 2
    tile_rows: int = 64
    tile_tokens: int = 64
    depth: int = 2
