"""Tiny models of several architectures with random weights, written with `gguf`.

Names and shapes of tensors are those that llama.cpp's loader of each architecture asks
for; numpy's order, the fastest dimension last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from benchmarks.random_model import Array, Shape, describe
from ggrpc.types import GGMLType

E, FF, HEADS, KV_HEADS, VOCAB, CONTEXT, EXPERTS = 256, 256, 8, 4, 512, 256, 6
SEED = 2  # with which no two experts suit a token so equally that rounding decides
HEAD = E // HEADS
KV = HEAD * KV_HEADS

Shapes = Mapping[str, tuple[int, ...]]

ATTENTION: Shapes = {
    "attn_norm.weight": (E,),
    "attn_q.weight": (E, E),
    "attn_k.weight": (KV, E),
    "attn_v.weight": (KV, E),
    "attn_output.weight": (E, E),
}
ATTENTION_BIASES: Shapes = {
    "attn_q.bias": (E,),
    "attn_k.bias": (KV,),
    "attn_v.bias": (KV,),
    "attn_output.bias": (E,),
}
QK_NORMS: Shapes = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
UP_AND_DOWN: Shapes = {"ffn_up.weight": (FF, E), "ffn_down.weight": (E, FF)}
UP_AND_DOWN_BIASES: Shapes = {"ffn_up.bias": (FF,), "ffn_down.bias": (E,)}
DENSE: Shapes = {"ffn_norm.weight": (E,), "ffn_gate.weight": (FF, E), **UP_AND_DOWN}
CHOSEN: Shapes = {
    "ffn_gate_inp.weight": (EXPERTS, E),
    "ffn_gate_exps.weight": (EXPERTS, FF, E),
    "ffn_up_exps.weight": (EXPERTS, FF, E),
    "ffn_down_exps.weight": (EXPERTS, E, FF),
}
CHOSEN_BIASES: Shapes = {
    "ffn_gate_inp.bias": (EXPERTS,),
    "ffn_gate_exps.bias": (EXPERTS, FF),
    "ffn_up_exps.bias": (EXPERTS, FF),
    "ffn_down_exps.bias": (EXPERTS, E),
}
NORM_BIAS: Shapes = {"attn_norm.bias": (E,)}


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        layer: the tensors of each layer.
        model: those of the model, beside the embedding and the norm of the output.
        n_head_kv: heads of the keys and values.
        has_experts: whether tokens choose among experts.
        n_swa: tokens that the sliding window holds, None where there is none.
    """

    layer: Shapes
    model: Shapes
    n_head_kv: int = KV_HEADS
    has_experts: bool = False
    n_swa: int | None = None


OUTPUT: Shapes = {"output.weight": (VOCAB, E)}
NORM: Shapes = {"ffn_norm.weight": (E,)}

ARCHITECTURES = {
    "llama": Architecture({**ATTENTION, **NORM, **CHOSEN}, OUTPUT, has_experts=True),
    "qwen3": Architecture({**ATTENTION, **QK_NORMS, **DENSE}, OUTPUT),
    "qwen3moe": Architecture(
        {**ATTENTION, **QK_NORMS, **NORM, **CHOSEN}, OUTPUT, has_experts=True
    ),
    "gpt-oss": Architecture(
        {
            **ATTENTION,
            **ATTENTION_BIASES,
            "attn_sinks.weight": (HEADS,),
            "post_attention_norm.weight": (E,),
            **CHOSEN,
            **CHOSEN_BIASES,
        },
        OUTPUT,
        has_experts=True,
        n_swa=4,
    ),
    "gemma3": Architecture(
        {
            **ATTENTION,
            **QK_NORMS,
            **DENSE,
            "post_attention_norm.weight": (E,),
            "post_ffw_norm.weight": (E,),
        },
        {},
        n_swa=4,
    ),
    "phi2": Architecture(
        {
            **ATTENTION,
            **ATTENTION_BIASES,
            **NORM_BIAS,
            **UP_AND_DOWN,
            **UP_AND_DOWN_BIASES,
        },
        {**OUTPUT, "output.bias": (VOCAB,), "output_norm.bias": (E,)},
    ),
    "gpt2": Architecture(
        {
            "attn_norm.weight": (E,),
            **NORM_BIAS,
            "attn_qkv.weight": (3 * E, E),
            "attn_qkv.bias": (3 * E,),
            "attn_output.weight": (E, E),
            "attn_output.bias": (E,),
            "ffn_norm.weight": (E,),
            "ffn_norm.bias": (E,),
            **UP_AND_DOWN,
            **UP_AND_DOWN_BIASES,
        },
        {"position_embd.weight": (CONTEXT, E), "output_norm.bias": (E,)},
        n_head_kv=HEADS,
    ),
}


def write_architecture(
    path: Path,
    name: str,
    type: GGMLType,
    experts: GGMLType | None = None,
    n_layer: int = 2,
) -> Path:
    """Write a model.

    Args:
        path: where to.
        name: one of `ARCHITECTURES`.
        type: of the matrices, but for those that choose experts, which are F32.
        experts: the type of the experts; None for that of the other matrices.
        n_layer: how many layers.

    Returns:
        The path.
    """
    architecture = ARCHITECTURES[name]
    writer = gguf.GGUFWriter(path, name)
    heads = {"n_head": HEADS, "n_head_kv": architecture.n_head_kv}
    sizes = {"n_layer": n_layer, "n_embd": E, "n_ff": FF, "n_vocab": VOCAB}
    describe(writer, Shape(**sizes, **heads, n_ctx=CONTEXT))
    writer.add_layer_norm_eps(1e-5)
    if architecture.has_experts:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(FF)
    if architecture.n_swa:
        writer.add_sliding_window(architecture.n_swa)
    tensors = {"token_embd.weight": (VOCAB, E), "output_norm.weight": (E,)}
    tensors.update(architecture.model)
    for i in range(n_layer):
        layer = architecture.layer.items()
        tensors.update({f"blk.{i}.{tensor}": shape for tensor, shape in layer})
    _write(writer, tensors, type, type if experts is None else experts)
    return path


def _write(
    writer: gguf.GGUFWriter, tensors: Shapes, type: GGMLType, experts: GGMLType
) -> None:
    rng = np.random.default_rng(SEED)
    for name, shape in tensors.items():
        values = _random(name, shape, rng)
        if _is_plain(name, shape):
            writer.add_tensor(name, values)
        else:
            wanted = experts if "_exps" in name else type
            quantized = gguf.GGMLQuantizationType(int(wanted))
            stored = gguf.quants.quantize(values, quantized)
            writer.add_tensor(name, stored, raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _random(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(shape, np.float32)
    if name.endswith("norm.weight"):
        return 1 + noise / 10
    matrix = len(shape) > 1 and name.endswith(".weight")
    return noise / np.float32(shape[-1] ** 0.5 if matrix else 10)


def _is_plain(name: str, shape: tuple[int, ...]) -> bool:
    """Whether llama.cpp's converter keeps it as float32 in every model."""
    kept = ("ffn_gate_inp", "position_embd")
    return len(shape) == 1 or name.endswith("bias") or any(k in name for k in kept)
