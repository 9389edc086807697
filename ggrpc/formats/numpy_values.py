"""numpy arrays to and from the bytes of contiguous tensors, whatever their type.

A shape is ne reversed, so that the last axis is the contiguous one. Types that numpy
lacks, BF16 and the quantized ones, are float32 on numpy's side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import CODECS, DTYPES, Array, view_of
from ggrpc.tensor import MAX_DIMS, Dims, Tensor, contiguous_nb
from ggrpc.types import GGMLType

# Of the types that numpy has; BF16 is among DTYPES only as bits.
NUMPY = {t: dtype for t, dtype in DTYPES.items() if t is not GGMLType.BF16}
TYPES = {dtype: t for t, dtype in NUMPY.items()}


def type_named(type: GGMLType | str) -> GGMLType:
    """A type by its name, in capitals or not.

    Raises:
        ConfigError: there is none such.
    """
    try:
        return GGMLType[type.upper()] if isinstance(type, str) else type
    except KeyError:
        raise ConfigError(
            f"there is no type '{type}': use one of {', '.join(GGMLType.__members__)}"
        ) from None


def type_of(array: Array) -> GGMLType:
    """The type that has an array's dtype.

    Raises:
        ConfigError: ggml has none such.
    """
    type = TYPES.get(array.dtype.newbyteorder("<"))
    if type is None:
        raise ConfigError(
            f"ggml has no {array.dtype}: convert it to one of "
            f"{', '.join(str(dtype) for dtype in TYPES)}"
        )
    return type


def ne_of(shape: Sequence[int]) -> Dims:
    """The dimensions of an array of a shape.

    Raises:
        ConfigError: it has more than 4, or a negative one.
    """
    if len(shape) > MAX_DIMS or min(shape, default=0) < 0:
        raise ConfigError(
            f"{list(shape)} is no shape of ggml's: {MAX_DIMS} dimensions at most, none "
            "of them negative"
        )
    a, b, c, d = (*reversed(shape), 1, 1, 1, 1)[:MAX_DIMS]
    return a, b, c, d


def shape_of(ne: Dims) -> tuple[int, ...]:
    """The shape of a tensor: ne reversed, without ones in front (ggml_n_dims)."""
    dims = MAX_DIMS
    while dims > 1 and ne[dims - 1] == 1:
        dims -= 1
    return tuple(reversed(ne[:dims]))


@np.errstate(all="ignore")  # what does not fit is infinity, NaN, or wraps around
def pack(array: Array, type: GGMLType) -> memoryview:
    """An array's values as a contiguous tensor of a type has them.

    Raises:
        ConfigError: rows cut through blocks, or nobody knows how to make the type.
    """
    ne0 = array.shape[-1] if array.ndim else 1
    if ne0 % type.blck_size:
        raise ConfigError(
            f"rows of {ne0} elements cut through {type.name}'s blocks of "
            f"{type.blck_size}"
        )
    if type in NUMPY:
        return _bytes(np.ascontiguousarray(array, NUMPY[type]))
    codec = CODECS[type]
    if codec.pack is None:
        raise ConfigError(f"no values can be packed into {type.name} here")
    rows = np.ascontiguousarray(array, np.float32).reshape(-1, ne0)
    width = type.row_size(ne0) if type.is_quantized else ne0
    packed = np.empty((len(rows), width), DTYPES.get(type, np.dtype(np.uint8)))
    codec.pack(rows, packed)
    return _bytes(packed)


@np.errstate(all="ignore")
def unpack(tensor: Tensor, data: memoryview) -> Array:
    """A tensor's values, out of its bytes from the first element on.

    Returns:
        A copy: shape ne reversed without ones in front; the type's own dtype where
        numpy has it, else float32.
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
    """The bytes of an array as a contiguous tensor of a type.

    Raises:
        ConfigError: rows cut through blocks, or nobody knows how to make the type.
    """
    return bytes(pack(np.asarray(array), type_named(type)))


def dequantize(
    data: bytes | memoryview, type: GGMLType | str, shape: Sequence[int]
) -> Array:
    """The values of a contiguous tensor's bytes.

    Args:
        data: the bytes.
        type: its type, or that type's name.
        shape: ne reversed.

    Returns:
        Of that shape; float32 where numpy lacks the type.

    Raises:
        ConfigError: the bytes are too many or too few.
    """
    tensor = described(type_named(type), ne_of(shape))
    view = memoryview(data).cast("B")
    if len(view) != tensor.nbytes:
        raise ConfigError(f"{len(view)} bytes are no tensor of {tensor.nbytes}")
    return unpack(tensor, view).reshape(shape)


def described(type: GGMLType, ne: Dims) -> Tensor:
    """A contiguous tensor without a place."""
    return Tensor(1, type, 0, ne, contiguous_nb(type, ne))


def _bytes(array: Array) -> memoryview:
    if not array.size:
        return memoryview(b"")
    return array.reshape(-1).view(np.uint8).data
