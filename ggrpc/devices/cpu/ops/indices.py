"""The check of indices that ops read from tensors, at each run."""

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
    """What refuses indices that name nothing; numpy would count negative ones back.

    Args:
        node: the node that reads them.
        index: the tensor that holds them.
        limit: how many there are to name.
        what: what they name.

    Returns:
        A function of the tensor's values, which raises a GraphError naming the node,
        the index and the limit.
    """
    unsigned = np.dtype(f"<u{index.type.type_size}")

    def check(ids: Array) -> None:
        seen = ids.view(unsigned)  # in which a negative index is a huge one
        largest = seen.item() if seen.size == 1 else seen.max(initial=0)
        if largest >= limit:
            wrong = ids[seen >= limit].flat[0]
            raise GraphError(f"{node.tensor}: there is no {what} {wrong} of {limit}")

    return check
