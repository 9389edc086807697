"""The signatures of the builder's methods, derived from the contracts of the ops.

The names of the arguments are those of ggml's constructors. Arguments with a usual
value are optional. The methods of a few ops, whose constructors compute shapes or
parameters, are written by hand in `builder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from inspect import Parameter, Signature
from typing import Any, NamedTuple, get_type_hints

from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import CONTRACTS, Contract
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

# Ops without a generated method: it is handwritten, or does not exist.
HANDWRITTEN = frozenset(
    {
        *(Op.NONE, Op.VIEW, Op.RESHAPE, Op.PERMUTE, Op.TRANSPOSE),
        *(Op.CONT, Op.CPY, Op.SET_ROWS, Op.OPT_STEP_ADAMW, Op.OPT_STEP_SGD),
        *(Op.ARANGE, Op.TOP_K, Op.WIN_PART, Op.WIN_UNPART, Op.ACC, Op.SET),
        *(Op.UNARY, Op.GLU),
    }
)
# Ops whose sources do not determine the shape of the result.
FREE_SHAPE = frozenset(
    {Op.REPEAT, Op.REPEAT_BACK, Op.IM2COL_BACK, Op.UPSCALE, Op.GET_ROWS_BACK}
)
# Ops whose sources do not determine the type of the result.
FREE_TYPE = frozenset({Op.IM2COL, Op.IM2COL_3D})
# Ops that have a constructor ggml_*_inplace, which overwrites the first source.
IN_PLACE = frozenset(
    {
        *(Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.ADD1, Op.SQR, Op.SQRT, Op.LOG, Op.SCALE),
        *(Op.SIN, Op.COS, Op.CLAMP, Op.LEAKY_RELU, Op.UNARY, Op.FILL, Op.DUP),
        *(Op.NORM, Op.RMS_NORM, Op.GROUP_NORM, Op.L2_NORM, Op.SOFT_MAX, Op.ROPE),
        *(Op.SOFT_MAX_BACK, Op.DIAG_MASK_INF, Op.DIAG_MASK_ZERO, Op.ADD_REL_POS),
    }
)

# The default values of parameters, for all ops.
DEFAULTS: Mapping[str, float] = {
    "bias": 0.0,
    "max_bias": 0.0,
    "logit_softcap": 0.0,
    "prec": 0,
    "hint": 0,
    "s0": 1,
    "s1": 1,
    "s2": 1,
    "p0": 0,
    "p1": 0,
    "p2": 0,
    "d0": 1,
    "d1": 1,
    "d2": 1,
    "is_2d": 1,
    "order": 0,
    "k": 1,
    "gated": 0,
    "max_period": 10000,
    "mode": 0,
    "shift1": 0,
    "shift2": 0,
    "shift3": 0,
    "swapped": 0,
    "circular": 0,
    **{f"{side}p{dim}": 0 for dim in range(4) for side in "lr"},
    "n_past": 0,
    "n_ctx": 0,
    "n_ctx_orig": 0,
    "n_offs": 0,
    "freq_base": 10000.0,
    "freq_scale": 1.0,
    "ext_factor": 0.0,
    "attn_factor": 1.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "section_t": 0,
    "section_h": 0,
    "section_w": 0,
    "section_e": 0,
}
# The exceptions for single ops.
OP_DEFAULTS: Mapping[tuple[Op, str], Any] = {
    (Op.SOFT_MAX, "scale"): 1.0,
    (Op.SOFT_MAX_BACK, "scale"): 1.0,
    (Op.DSV4_HC_PRE, "scale"): 1.0,
    (Op.DIAG_MASK_INF, "n_past"): Parameter.empty,
    (Op.DIAG_MASK_ZERO, "n_past"): Parameter.empty,
}
# The parameters of single functions of UNARY and GLU.
FUNCTION_PARAMS: Mapping[str, tuple[str, ...]] = {
    UnaryOp.XIELU.name: ("alpha_n", "alpha_p", "beta", "eps"),
    GluOp.SWIGLU_OAI.name: ("alpha", "limit"),
    GluOp.SWIGLU_CLAMP.name: ("limit",),
}


class Method(NamedTuple):
    """A method of the builder.

    Attributes:
        name: the name of the method.
        contract: the contract of its op.
        function: the function of UNARY or GLU; None for other ops.
        fields: maps arguments of the method to parameters of the op.
        signature: the arguments without `self`.
    """

    name: str
    contract: Contract
    function: IntEnum | None
    fields: Mapping[str, str]
    signature: Signature

    @property
    def sources(self) -> list[str]:
        """The names of the arguments that are tensors, in the contract's order."""
        return [_argument(source.name) for source in self.contract.sources]

    def params(self, given: Mapping[str, Any]) -> Any:
        """The parameters of the op for the arguments of a call."""
        values: dict[str, Any] = dict.fromkeys(self.contract.params._fields, 0)  # type: ignore[attr-defined]
        values.update({field: given[name] for name, field in self.fields.items()})
        if self.function is not None:
            values["op"] = int(self.function)
        if given.get("inplace") and "inplace" in values:
            values["inplace"] = 1
        return self.contract.params(**values)


def methods() -> Iterator[Method]:
    """All methods that are generated from contracts."""
    for op, contract in sorted(CONTRACTS.items(), key=lambda item: item[0]):
        if op not in HANDWRITTEN:
            fields = {_argument_of(n, contract): n for n in contract.params._fields}  # type: ignore[attr-defined]
            fields.pop("inplace", None)
            yield _method(op.name.lower(), contract, None, fields)
    for unary in UnaryOp:
        fields = {n: n for n in FUNCTION_PARAMS.get(unary.name, ())}
        yield _method(unary.name.lower(), CONTRACTS[Op.UNARY], unary, fields)
    for glu in GluOp:
        fields = {n: n for n in ("swapped", *FUNCTION_PARAMS.get(glu.name, ()))}
        yield _method(glu.name.lower(), CONTRACTS[Op.GLU], glu, fields)


def _method(
    name: str, contract: Contract, function: IntEnum | None, fields: dict[str, str]
) -> Method:
    parameters = [
        Parameter(
            _argument(source.name),
            Parameter.POSITIONAL_OR_KEYWORD,
            default=None if source.optional else Parameter.empty,
            annotation=Tensor | None if source.optional else Tensor,
        )
        for source in contract.sources
    ]
    hints = get_type_hints(contract.params)
    for argument, field in fields.items():
        default = DEFAULTS.get(field, Parameter.empty)
        default = OP_DEFAULTS.get((contract.op, field), default)
        parameters.append(_keyword(argument, hints[field], default))
    if contract.op in FREE_SHAPE:
        parameters.append(_keyword("ne", "Sequence[int]"))
    if contract.op in FREE_TYPE:
        parameters.append(_keyword("type", GGMLType | None, None))
    if contract.op in IN_PLACE:
        parameters.append(_keyword("inplace", bool, False))
    parameters.append(_keyword("name", str, ""))
    signature = Signature(parameters, return_annotation=Tensor)
    return Method(name, contract, function, fields, signature)


def _keyword(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _argument(source: str) -> str:
    return f"{source}_" if source == "as" else source  # `as` is a keyword of Python


def _argument_of(field: str, contract: Contract) -> str:
    """The argument for a parameter; in capitals if a source has the same name."""
    taken = {source.name for source in contract.sources}
    return field.upper() if field in taken else field
