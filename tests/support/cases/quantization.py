"""Cases of CPY and SET_ROWS from each float type to each quantized type.

They also copy blocks of types that ggrpc cannot quantize to.
"""

from __future__ import annotations

from collections.abc import Iterator

from ggrpc.formats.codecs import CODECS
from ggrpc.op import Op
from ggrpc.types import FLOATS, QUANTIZED, GGMLType
from tests.support.case import Case
from tests.support.cases.copies import cpy, set_rows

EQUAL = 1e-12
WRITABLE = sorted(t for t in QUANTIZED & CODECS.keys() if CODECS[t].pack)


def cases() -> Iterator[tuple[str, Case]]:
    for type in WRITABLE:
        for source in sorted(FLOATS):
            yield f"CPY-{source.name}-{type.name}", cpy(source, type, (512, 40))
        yield f"CPY-zeros-{type.name}", zeros(type)
        yield f"SET_ROWS-{type.name}", set_rows(type, (256, 3), (256, 9))
    # Of so many blocks some have two scales that suit them almost alike.
    many = cpy(GGMLType.F16, GGMLType.IQ4_XS, (512, 1000))
    many.limit = EQUAL
    yield "CPY-many-IQ4_XS", many
    for op in (Op.CPY, Op.CONT, Op.DUP):
        yield f"{op.name}-IQ2_XS-IQ2_XS", same_blocks(op)


def same_blocks(op: Op) -> Case:
    case = Case()
    x = case.leaf((256, 3, 2), GGMLType.IQ2_XS)
    y = case.leaf((256, 3, 2), GGMLType.IQ2_XS)
    if op == Op.CPY:
        case.node(op, [x, y], y.ne, y.type, inplace_over=y)
    else:
        case.node(op, [case.permute(x, 0, 2, 1, 3)], (256, 2, 3), y.type)
    return case


def zeros(type: GGMLType) -> Case:
    """Numbers of which some blocks, and parts of blocks, are 0 or all the same."""
    case = Case()
    numbers = case.rng.standard_normal((6, 512))
    numbers[0] = 0
    numbers[1, 32:64] = 0
    numbers[2, 16:48] = 1.5
    numbers[3] = -2
    numbers[4, :256] *= 1e-9
    x, y = case.leaf(numbers), case.leaf((512, 6), type)
    case.node(Op.CPY, [x, y], y.ne, type, inplace_over=y)
    return case
