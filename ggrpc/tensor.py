"""The description of a tensor: ggml's `struct ggml_tensor` without the bytes.

Messages are decoded into it, validation checks it, and devices compile it.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.types import GGMLType

MAX_DIMS = 4  # GGML_MAX_DIMS
MAX_SRC = 10  # GGML_MAX_SRC
OP_PARAMS_BYTES = 64  # GGML_MAX_OP_PARAMS
FLAG_COMPUTE = 16  # GGML_TENSOR_FLAG_COMPUTE

Dims = tuple[int, int, int, int]


class Tensor(NamedTuple):
    """A tensor of a graph or command.

    Attributes:
        id: the client's identifier of the tensor, never 0.
        type: the type of the elements.
        buffer: the handle of the buffer that holds the tensor; 0 for none.
        ne: the number of elements in each dimension, the fastest first.
        nb: the stride of each dimension in bytes; nb[0] is the size of a block.
        op: the op that computes the tensor; NONE for a leaf.
        op_params: 64 bytes; the contracts in `ggrpc.ops` define their layout.
        flags: ggml's tensor flags.
        src: the ids of the sources, 10 entries; 0 for none.
        view_src: for a view, the id of the tensor whose bytes it shows; otherwise 0.
        view_offs: for a view, the offset in that tensor in bytes.
        data: the address of the first byte, in the address space of the buffer.
        raw_name: the name as sent, up to 64 bytes, with a NUL at its end.
        use_count: the number of nodes that read the tensor, if the client sends it.
    """

    id: int
    type: GGMLType
    buffer: int
    ne: Dims
    nb: Dims
    op: Op = Op.NONE
    op_params: bytes = bytes(OP_PARAMS_BYTES)
    flags: int = 0
    src: tuple[int, ...] = (0,) * MAX_SRC
    view_src: int = 0
    view_offs: int = 0
    data: int = 0
    raw_name: bytes = b""
    use_count: int = 0

    @property
    def name(self) -> str:
        """The name as text, up to the first NUL."""
        return self.raw_name.split(b"\0", 1)[0].decode(errors="replace")

    def __str__(self) -> str:
        return f"{self.op.name} '{self.name}'" if self.op else f"tensor '{self.name}'"

    @property
    def nelements(self) -> int:
        """The number of elements (ggml_nelements)."""
        return self.ne[0] * self.ne[1] * self.ne[2] * self.ne[3]

    @property
    def nrows(self) -> int:
        """The number of rows (ggml_nrows)."""
        return self.ne[1] * self.ne[2] * self.ne[3]

    @property
    def nbytes(self) -> int:
        """Bytes from the first element to the end of the last (ggml_nbytes)."""
        if 0 in self.ne:
            return 0
        size = self.type.row_size(self.ne[0])
        if not self.type.is_quantized:
            size = self.type.type_size + (self.ne[0] - 1) * self.nb[0]
        _, n1, n2, n3 = self.ne
        _, b1, b2, b3 = self.nb
        return size + (n1 - 1) * b1 + (n2 - 1) * b2 + (n3 - 1) * b3

    @property
    def packed_bytes(self) -> int:
        """Bytes of all elements without gaps, whatever the strides are."""
        return self.type.row_size(self.ne[0]) * self.nrows

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements are stored in order and without gaps."""
        whole = contiguous_nb(self.type, self.ne)
        return self.nb == whole or all(
            b == c or n == 1 for n, b, c in zip(self.ne, self.nb, whole, strict=True)
        )


def contiguous_nb(type: GGMLType, ne: Dims) -> Dims:
    """The byte strides of a contiguous tensor (ggml_new_tensor)."""
    nb1 = type.row_size(ne[0])
    nb2 = nb1 * ne[1]
    return type.type_size, nb1, nb2, nb2 * ne[2]
