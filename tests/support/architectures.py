"""The tensors and keys of tiny models, as llama.cpp's loaders require them.

Shapes are in numpy's order, the fastest dimension last. `models.py` writes the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

E, FF, HEADS, KV_HEADS, VOCAB, CONTEXT, EXPERTS = 256, 256, 8, 4, 512, 256, 6
HEAD = E // HEADS
KV = HEAD * KV_HEADS

Shapes = Mapping[str, tuple[int, ...]]
Keys = Mapping[str, int | bool]


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        layers: the tensors of a layer; different kinds of layers alternate.
        model: the tensors of the model, without the embedding.
        keys: further keys that its loader requires, without the name of the
            architecture as prefix.
        n_head_kv: the number of heads of the keys and values.
        n_head: the number of heads of the queries; 0 without attention.
        n_swa: the number of tokens in the sliding window; None without one.
    """

    layers: tuple[Shapes, ...]
    model: Shapes
    keys: Keys = field(default_factory=dict)
    n_head_kv: int = KV_HEADS
    n_head: int = HEADS
    n_swa: int | None = None


def with_biases(weights: Shapes) -> Shapes:
    """The weights, and for each a bias with an element per row."""
    biases = {
        name.replace(".weight", ".bias"): shape[:-1] if len(shape) > 1 else shape
        for name, shape in weights.items()
    }
    return {**weights, **biases}


ATTENTION: Shapes = {
    "attn_q.weight": (E, E),
    "attn_k.weight": (KV, E),
    "attn_v.weight": (KV, E),
    "attn_output.weight": (E, E),
}
ATTENTION_NORM: Shapes = {"attn_norm.weight": (E,)}
QK_NORMS: Shapes = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
UP_AND_DOWN: Shapes = {"ffn_up.weight": (FF, E), "ffn_down.weight": (E, FF)}
NORM: Shapes = {"ffn_norm.weight": (E,)}
GATED: Shapes = {"ffn_gate.weight": (FF, E), **UP_AND_DOWN}
DENSE: Shapes = {**ATTENTION_NORM, **ATTENTION, **NORM, **GATED}
ROUTER: Shapes = {"ffn_gate_inp.weight": (EXPERTS, E)}
CHOSEN: Shapes = {
    "ffn_gate_exps.weight": (EXPERTS, FF, E),
    "ffn_up_exps.weight": (EXPERTS, FF, E),
    "ffn_down_exps.weight": (EXPERTS, E, FF),
}
EXPERT_KEYS: Keys = {
    "expert_count": EXPERTS,
    "expert_used_count": 2,
    "expert_feed_forward_length": FF,
}
OUTPUT_NORM: Shapes = {"output_norm.weight": (E,)}
OUTPUT: Shapes = {**OUTPUT_NORM, "output.weight": (VOCAB, E)}

DECODERS = {
    "llama": Architecture(
        ({**ATTENTION_NORM, **ATTENTION, **NORM, **ROUTER, **CHOSEN},),
        OUTPUT,
        EXPERT_KEYS,
    ),
    "qwen3": Architecture(({**DENSE, **QK_NORMS},), OUTPUT),
    "qwen3moe": Architecture(
        ({**ATTENTION_NORM, **ATTENTION, **QK_NORMS, **NORM, **ROUTER, **CHOSEN},),
        OUTPUT,
        EXPERT_KEYS,
    ),
    "gpt-oss": Architecture(
        (
            {
                **ATTENTION_NORM,
                **with_biases(ATTENTION),
                "attn_sinks.weight": (HEADS,),
                "post_attention_norm.weight": (E,),
                **with_biases({**ROUTER, **CHOSEN}),
            },
        ),
        OUTPUT,
        EXPERT_KEYS,
        n_swa=4,
    ),
    "gemma3": Architecture(
        (
            {
                **DENSE,
                **QK_NORMS,
                "post_attention_norm.weight": (E,),
                "post_ffw_norm.weight": (E,),
            },
        ),
        OUTPUT_NORM,
        n_swa=4,
    ),
    "phi2": Architecture(
        (with_biases({**ATTENTION_NORM, **ATTENTION, **UP_AND_DOWN}),),
        with_biases(OUTPUT),
    ),
    "gpt2": Architecture(
        (
            with_biases(
                {
                    **ATTENTION_NORM,
                    "attn_qkv.weight": (3 * E, E),
                    "attn_output.weight": (E, E),
                    **NORM,
                    **UP_AND_DOWN,
                }
            ),
        ),
        {"position_embd.weight": (CONTEXT, E), **with_biases(OUTPUT_NORM)},
        n_head_kv=HEADS,
    ),
}

CONV, INNER, STATE, STEP = 4, 2 * E, 16, 16  # mamba
MAMBA: Shapes = {
    **ATTENTION_NORM,
    "ssm_in.weight": (2 * INNER, E),
    "ssm_conv1d.weight": (INNER, CONV),
    "ssm_conv1d.bias": (INNER,),
    "ssm_x.weight": (STEP + 2 * STATE, INNER),
    "ssm_dt.weight": (INNER, STEP),
    "ssm_dt.bias": (INNER,),
    "ssm_a": (INNER, STATE),
    "ssm_d": (INNER,),
    "ssm_out.weight": (E, INNER),
}

WKV_HEAD, RANK = 64, 32
RWKV7: Shapes = {
    **with_biases({**ATTENTION_NORM, "attn_norm_2.weight": (E,)}),
    **{f"time_mix_{x}0.weight": (E,) for x in "wav"},
    **{f"time_mix_{x}1.weight": (RANK, E) for x in "wavg"},
    **{f"time_mix_{x}2.weight": (E, RANK) for x in "wavg"},
    "time_mix_lerp_fused.weight": (6, 1, 1, E),
    **{f"time_mix_{x}.weight": (E,) for x in ("k_k", "k_a", "r_k")},
    **{
        f"time_mix_{x}.weight": (E, E) for x in ("key", "value", "receptance", "output")
    },
    **with_biases({"time_mix_ln.weight": (E,)}),
    "channel_mix_lerp_k.weight": (1, 1, E),
    "channel_mix_key.weight": (FF, E),
    "channel_mix_value.weight": (E, FF),
}

DELTA_STATE, DELTA_K_HEADS, DELTA_V_HEADS = 64, 2, 4  # qwen3next's linear attention
DELTA_INNER = DELTA_STATE * DELTA_V_HEADS
DELTA_QKV = 2 * DELTA_STATE * DELTA_K_HEADS + DELTA_INNER
SHARED_EXPERT: Shapes = {
    **ROUTER,
    **CHOSEN,
    "ffn_gate_inp_shexp.weight": (E,),
    "ffn_gate_shexp.weight": (FF, E),
    "ffn_up_shexp.weight": (FF, E),
    "ffn_down_shexp.weight": (E, FF),
}
BOTH_NORMS: Shapes = {**ATTENTION_NORM, "post_attention_norm.weight": (E,)}
DELTA_NET: Shapes = {
    **BOTH_NORMS,
    "attn_qkv.weight": (DELTA_QKV, E),
    "attn_gate.weight": (DELTA_INNER, E),
    "ssm_conv1d.weight": (DELTA_QKV, CONV),
    "ssm_dt.bias": (DELTA_V_HEADS,),
    "ssm_a": (DELTA_V_HEADS,),
    "ssm_ba.weight": (2 * DELTA_V_HEADS, E),
    "ssm_norm.weight": (DELTA_STATE,),
    "ssm_out.weight": (E, DELTA_INNER),
    **SHARED_EXPERT,
}
GATED_ATTENTION: Shapes = {
    **BOTH_NORMS,
    **ATTENTION,
    "attn_q.weight": (2 * E, E),
    **QK_NORMS,
    **SHARED_EXPERT,
}

RECURRENT = {
    "mamba": Architecture(
        (MAMBA,),
        OUTPUT,
        {
            "ssm.conv_kernel": CONV,
            "ssm.inner_size": INNER,
            "ssm.state_size": STATE,
            "ssm.time_step_rank": STEP,
        },
        n_head=0,
        n_head_kv=0,
    ),
    "rwkv7": Architecture(
        (RWKV7,),
        {
            **with_biases({"token_embd_norm.weight": (E,), **OUTPUT_NORM}),
            "output.weight": (VOCAB, E),
        },
        {
            "wkv.head_size": WKV_HEAD,
            "attention.decay_lora_rank": RANK,
            "attention.iclr_lora_rank": RANK,
            "attention.value_residual_mix_lora_rank": RANK,
            "attention.gate_lora_rank": RANK,
            "token_shift_count": 2,
        },
        n_head=0,
        n_head_kv=0,
    ),
    "qwen3next": Architecture(
        (DELTA_NET, GATED_ATTENTION),
        OUTPUT,
        {
            **EXPERT_KEYS,
            "expert_shared_feed_forward_length": FF,
            "ssm.conv_kernel": CONV,
            "ssm.inner_size": DELTA_INNER,
            "ssm.state_size": DELTA_STATE,
            "ssm.time_step_rank": DELTA_V_HEADS,
            "ssm.group_count": DELTA_K_HEADS,
            "full_attention_interval": 2,
        },
    ),
}

BERT: Shapes = with_biases(
    {
        **ATTENTION,
        "attn_k.weight": (E, E),
        "attn_v.weight": (E, E),
        "attn_output_norm.weight": (E,),
        **UP_AND_DOWN,
        "layer_output_norm.weight": (E,),
    }
)

T5_SELF: Shapes = {
    **ATTENTION_NORM,
    "attn_rel_b.weight": (32, HEADS),
    **{f"attn_{x}.weight": (E, E) for x in "qkvo"},
    **NORM,
    **GATED,
}
T5_CROSS: Shapes = {
    "cross_attn_norm.weight": (E,),
    **{f"cross_attn_{x}.weight": (E, E) for x in "qkvo"},
}


def _both_sides(layer: int) -> Shapes:
    sides = {"enc": T5_SELF, "dec": {**T5_SELF, **T5_CROSS}}
    return {
        f"{side}.blk.{layer}.{name}": shape
        for side, tensors in sides.items()
        for name, shape in tensors.items()
    }


ENCODERS = {
    "bert": Architecture(
        (BERT,),
        {
            "token_types.weight": (2, E),
            "position_embd.weight": (CONTEXT, E),
            **with_biases({"token_embd_norm.weight": (E,)}),
        },
        {"attention.causal": False, "pooling_type": 1},
        n_head_kv=HEADS,
    ),
    "t5": Architecture(
        ({},),
        {
            "enc.output_norm.weight": (E,),
            "dec.output_norm.weight": (E,),
            "output.weight": (VOCAB, E),
            **_both_sides(0),
            **_both_sides(1),
        },
        {"attention.relative_buckets_count": 32, "decoder_start_token_id": 0},
        n_head_kv=HEADS,
    ),
}

ARCHITECTURES = {**DECODERS, **RECURRENT, **ENCODERS}
