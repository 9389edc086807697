"""The types of tensors, with ggml's numbers and the sizes of their blocks.

Source: `enum ggml_type` and `type_traits` in ggml. The package `gguf` has a similar
table, but it lacks Q2_0 and gives Q8_1 another size.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum


class GGMLType(IntEnum):
    """An element type; the value is ggml's number for it.

    Attributes:
        blck_size: elements in a block (1 for plain types).
        type_size: the size of a block in bytes.
    """

    blck_size: int
    type_size: int

    def __new__(cls, number: int, blck_size: int, type_size: int) -> GGMLType:
        """Create a member with the sizes of its block."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.blck_size = blck_size
        member.type_size = type_size
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 36
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18
    Q2_0 = 42, 64, 18

    @property
    def is_quantized(self) -> bool:
        """Whether a block has more than one element."""
        return self.blck_size > 1

    def row_size(self, ne0: int) -> int:
        """The bytes of `ne0` consecutive elements; ne0 is a multiple of blck_size."""
        return ne0 // self.blck_size * self.type_size


FLOATS = frozenset({GGMLType.F32, GGMLType.F16, GGMLType.BF16})
QUANTIZED = frozenset(t for t in GGMLType if t.is_quantized)


def type_names(types: Collection[GGMLType]) -> str:
    """A set of types for people to read: `F32, F16, BF16, quantized`."""
    if len(types) == len(GGMLType):
        return "any type"
    names = [t.name for t in GGMLType if t in types]
    if QUANTIZED.issubset(types):
        names = [t.name for t in GGMLType if t in types and not t.is_quantized]
        names.append("quantized")
    return ", ".join(names)
