"""Llama models with random weights, of any size and type, written with `gguf`.

Such a model generates nonsense, but at the speed of a real one, and two engines
generate the same. Quantized blocks are made directly, of random bytes and of scales
that keep the outputs of a layer as large as its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ggrpc.types import GGMLType

Array = np.ndarray[Any, Any]

# Where the float16 scales of a block are, and the standard deviation of an element
# whose scales are 1 and whose other bytes are random.
SCALES: dict[GGMLType, tuple[tuple[int, ...], float]] = {
    GGMLType.Q4_0: ((0,), 4.6),
    GGMLType.Q8_0: ((0,), 74.0),
    GGMLType.Q2_K: ((80, 82), 13.0),
    GGMLType.Q3_K: ((108,), 42.0),
    GGMLType.Q4_K: ((0, 2), 350.0),
    GGMLType.Q5_K: ((0, 2), 680.0),
    GGMLType.Q6_K: ((208,), 1400.0),
}


@dataclass(frozen=True)
class Shape:
    """The dimensions of a llama model; the defaults are those of a 1.1B one."""

    n_layer: int = 22
    n_embd: int = 2048
    n_ff: int = 5632
    n_head: int = 32
    n_head_kv: int = 4
    n_vocab: int = 32000
    n_ctx: int = 2048


SMALL = Shape(n_layer=2, n_embd=256, n_ff=512, n_head=8, n_head_kv=2, n_vocab=512)


def random_blocks(
    type: GGMLType, rows: int, ne0: int, rng: np.random.Generator
) -> Array:
    """Rows of random elements with a standard deviation of about 1 / sqrt(ne0).

    Returns:
        float32 or float16 of shape (rows, ne0), or the bytes of each row.
    """
    deviation = ne0**-0.5
    if type in (GGMLType.F32, GGMLType.F16):
        values = rng.standard_normal((rows, ne0), np.float32) * np.float32(deviation)
        return values.astype(np.float16) if type is GGMLType.F16 else values
    offsets, unit = SCALES[type]
    blocks = np.frombuffer(rng.bytes(rows * type.row_size(ne0)), np.uint8).copy()
    blocks = blocks.reshape(-1, type.type_size)
    scale = np.array([deviation / unit], np.float16).view(np.uint8)
    for at in offsets:
        blocks[:, at : at + 2] = scale
    return blocks.reshape(rows, -1)


def write_model(
    path: Path, type: GGMLType, shape: Shape, seed: int = 1, mixed: bool = False
) -> Path:
    """Write a model whose matrices are of one type.

    Args:
        path: the file to write.
        type: the type of the matrices.
        shape: the dimensions of the model.
        seed: the seed of the weights.
        mixed: whether the matrices that matter most are Q6_K, as in Q4_K_M.

    Returns:
        The path.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    describe(writer, shape)
    for name, ne1, ne0 in _matrices(shape):
        kind = GGMLType.Q6_K if mixed and _has_more_bits(name, shape) else type
        data = random_blocks(kind, ne1, ne0, rng)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType(int(kind)))
    for name in _norms(shape):
        writer.add_tensor(name, np.ones(shape.n_embd, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """Write the metadata that every model has, and a vocabulary of made-up words."""
    writer.add_name("random")
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    if shape.n_head:
        writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(shape.n_vocab)
    special = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    rest = [f"w{i}" for i in range(shape.n_vocab - len(special) - len(bytes_))]
    kinds = (
        [gguf.TokenType.UNKNOWN]
        + [gguf.TokenType.CONTROL] * 2
        + [gguf.TokenType.BYTE] * len(bytes_)
        + [gguf.TokenType.NORMAL] * len(rest)
    )
    writer.add_tokenizer_model("llama")
    writer.add_token_list(special + bytes_ + rest)
    writer.add_token_scores([0.0] * shape.n_vocab)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _matrices(shape: Shape) -> list[tuple[str, int, int]]:
    """Name, rows and columns of each matrix."""
    n_kv = shape.n_embd // shape.n_head * shape.n_head_kv
    layer = [
        ("attn_q", shape.n_embd, shape.n_embd),
        ("attn_k", n_kv, shape.n_embd),
        ("attn_v", n_kv, shape.n_embd),
        ("attn_output", shape.n_embd, shape.n_embd),
        ("ffn_gate", shape.n_ff, shape.n_embd),
        ("ffn_up", shape.n_ff, shape.n_embd),
        ("ffn_down", shape.n_embd, shape.n_ff),
    ]
    return [
        ("token_embd.weight", shape.n_vocab, shape.n_embd),
        ("output.weight", shape.n_vocab, shape.n_embd),
        *(
            (f"blk.{i}.{name}.weight", rows, columns)
            for i in range(shape.n_layer)
            for name, rows, columns in layer
        ),
    ]


def _has_more_bits(name: str, shape: Shape) -> bool:
    """Whether llama.cpp's mixture Q4_K_M gives a matrix the type Q6_K."""
    _, layer, *rest = name.split(".")
    if not rest:
        return name == "output.weight"
    i, n = int(layer), shape.n_layer
    some = i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
    return some and rest[0] in ("attn_v", "ffn_down")


def bytes_per_token(path: Path) -> int:
    """The bytes of the matrices that decoding a token reads whole."""
    tensors = gguf.GGUFReader(path).tensors
    return sum(int(t.n_bytes) for t in tensors if t.name != "token_embd.weight")


def _norms(shape: Shape) -> list[str]:
    layers = range(shape.n_layer)
    return [
        "output_norm.weight",
        *(f"blk.{i}.{kind}_norm.weight" for i in layers for kind in ("attn", "ffn")),
    ]
