"""The check of indices that an op reads from a tensor, done at each run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.ops import Node
from ggrpc.tensor import Tensor


def index_check(
    node: Node, index: Tensor, limit: int, what: str = "row"
) -> Callable[[Array], None]:
    """Make a function that checks indices; numpy itself accepts negative ones.

    Args:
        node: the node that reads the indices.
        index: the tensor that holds them.
        limit: the number of rows; an index must be below it.
        what: the word for a row in the error message.

    Returns:
        A function that takes the values of `index`, and raises GraphError if one is
        out of range.
    """
    unsigned = np.dtype(f"<u{index.type.type_size}")

    def check(ids: Array) -> None:
        seen = ids.view(unsigned)  # negative indices become very large
        largest = seen.item() if seen.size == 1 else seen.max(initial=0)
        if largest >= limit:
            wrong = ids[seen >= limit].flat[0]
            raise GraphError(f"{node.tensor}: there is no {what} {wrong} of {limit}")

    return check
