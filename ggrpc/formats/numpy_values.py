"""Converts the values of numpy arrays to and from the bytes of contiguous tensors.

Shapes are ne reversed, so that the last axis is the contiguous one. Types that numpy
does not have, BF16 and the quantized ones, become float32 arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import CODECS, DTYPES, Array, view_of
from ggrpc.tensor import MAX_DIMS, Dims, Tensor, contiguous_nb
from ggrpc.types import GGMLType

# The types that numpy has. BF16 is in DTYPES only as uint16.
NUMPY = {t: dtype for t, dtype in DTYPES.items() if t is not GGMLType.BF16}
TYPES = {dtype: t for t, dtype in NUMPY.items()}


def parse_type(type: GGMLType | str) -> GGMLType:
    """The type with a name, in upper or lower case.

    Raises:
        ConfigError: there is no such type.
    """
    try:
        return GGMLType[type.upper()] if isinstance(type, str) else type
    except KeyError:
        raise ConfigError(
            f"there is no type '{type}': use one of {', '.join(GGMLType.__members__)}"
        ) from None


def type_of(array: Array) -> GGMLType:
    """The type for the dtype of an array.

    Raises:
        ConfigError: ggml has no type for it.
    """
    type = TYPES.get(array.dtype.newbyteorder("<"))
    if type is None:
        raise ConfigError(
            f"ggml has no type for {array.dtype}: convert the array to one of "
            f"{', '.join(str(dtype) for dtype in TYPES)}"
        )
    return type


def ne_of(shape: Sequence[int]) -> Dims:
    """The dimensions (ne) of an array.

    Raises:
        ConfigError: the shape has more than 4 dimensions, or a negative one.
    """
    if len(shape) > MAX_DIMS or min(shape, default=0) < 0:
        raise ConfigError(
            f"{list(shape)} is not a valid shape: give at most {MAX_DIMS} dimensions, "
            "none of them negative"
        )
    a, b, c, d = (*reversed(shape), 1, 1, 1, 1)[:MAX_DIMS]
    return a, b, c, d


def shape_of(ne: Dims) -> tuple[int, ...]:
    """The shape of a tensor: ne reversed, without leading ones (ggml_n_dims)."""
    dims = MAX_DIMS
    while dims > 1 and ne[dims - 1] == 1:
        dims -= 1
    return tuple(reversed(ne[:dims]))


@np.errstate(all="ignore")  # values out of range become infinity or NaN, or wrap around
def pack(array: Array, type: GGMLType) -> memoryview:
    """Convert an array to the bytes of a contiguous tensor of a type.

    Raises:
        ConfigError: a row is not a whole number of blocks, or ggrpc cannot pack the
            type.
    """
    ne0 = array.shape[-1] if array.ndim else 1
    if ne0 % type.blck_size:
        raise ConfigError(
            f"rows of {ne0} elements are not a multiple of {type.name}'s block size, "
            f"{type.blck_size}"
        )
    if type in NUMPY:
        return _bytes(np.ascontiguousarray(array, NUMPY[type]))
    codec = CODECS[type]
    if codec.pack is None:
        raise ConfigError(f"ggrpc cannot convert values to {type.name}")
    rows = np.ascontiguousarray(array, np.float32).reshape(-1, ne0)
    width = type.row_size(ne0) if type.is_quantized else ne0
    packed = np.empty((len(rows), width), DTYPES.get(type, np.dtype(np.uint8)))
    codec.pack(rows, packed)
    return _bytes(packed)


@np.errstate(all="ignore")
def unpack(tensor: Tensor, data: memoryview) -> Array:
    """A copy of the values of a tensor.

    Args:
        tensor: the description of the tensor.
        data: its bytes, from the first element on.

    Returns:
        The shape is ne reversed, without leading ones; the dtype is that of the type,
        or float32 if numpy does not have it.
    """
    shape = shape_of(tensor.ne)
    if 0 in tensor.ne:
        stored = tensor.type if tensor.type in NUMPY else GGMLType.F32
        return np.empty(shape, NUMPY[stored])
    view = view_of(tensor, data, 0)
    if tensor.type in NUMPY:
        return view.copy().reshape(shape)
    values = np.empty(tensor.ne[::-1], np.float32)
    CODECS[tensor.type].unpack(view, values)
    return values.reshape(shape)


def quantize(array: Array, type: GGMLType | str) -> bytes:
    """Convert an array to the bytes of a contiguous tensor of a type.

    Raises:
        ConfigError: a row is not a whole number of blocks, there is no such type, or
            ggrpc cannot pack it.
    """
    return bytes(pack(np.asarray(array), parse_type(type)))


def dequantize(
    data: bytes | memoryview, type: GGMLType | str, shape: Sequence[int]
) -> Array:
    """Convert the bytes of a contiguous tensor to an array.

    Args:
        data: the bytes.
        type: the type, or its name.
        shape: the shape of the result, ne reversed.

    Returns:
        An array of that shape; its dtype is that of the type, or float32 if numpy does
        not have it.

    Raises:
        ConfigError: there is no such type, or the number of bytes is wrong.
    """
    tensor = contiguous_tensor(parse_type(type), ne_of(shape))
    view = memoryview(data).cast("B")
    if len(view) != tensor.nbytes:
        raise ConfigError(
            f"the tensor has {tensor.nbytes} bytes, but its data has {len(view)}"
        )
    return unpack(tensor, view).reshape(shape)


def contiguous_tensor(type: GGMLType, ne: Dims) -> Tensor:
    """The description of a contiguous tensor without a buffer."""
    return Tensor(1, type, 0, ne, contiguous_nb(type, ne))


def _bytes(array: Array) -> memoryview:
    if not array.size:
        return memoryview(b"")
    return array.reshape(-1).view(np.uint8).data
