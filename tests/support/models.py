"""Write the tiny models of `architectures.py` with random weights."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from benchmarks.random_model import Array, Shape, describe
from ggrpc.types import GGMLType
from tests.support import architectures
from tests.support.architectures import ARCHITECTURES, Keys, Shapes

# With this seed, no token has two experts whose scores differ by no more than rounding.
SEED = 2

# Besides vectors, llama.cpp's converter stores these tensors as float32 in every model.
ALWAYS_F32 = (
    ".bias",
    "ffn_gate_inp",
    "position_embd",
    "token_types",
    "ssm_conv1d",
    "ssm_a",
    "lerp",
    "attn_rel_b",
)


def write_architecture(
    path: Path,
    name: str,
    type: GGMLType,
    experts: GGMLType | None = None,
    n_layer: int = 2,
) -> Path:
    """Write a model.

    Args:
        path: the path of the file.
        name: a key of `ARCHITECTURES`.
        type: the type of the matrices, except those that are always F32.
        experts: the type of the experts; None for that of the other matrices.
        n_layer: the number of layers.

    Returns:
        The path.
    """
    architecture = ARCHITECTURES[name]
    writer = gguf.GGUFWriter(path, name)
    heads = {"n_head": architecture.n_head, "n_head_kv": architecture.n_head_kv}
    e, ff, vocab = architectures.E, architectures.FF, architectures.VOCAB
    sizes = {"n_layer": n_layer, "n_embd": e, "n_ff": ff, "n_vocab": vocab}
    describe(writer, Shape(**sizes, **heads, n_ctx=architectures.CONTEXT))
    writer.add_layer_norm_eps(1e-5)
    writer.add_token_type_count(2)
    if architecture.n_swa:
        writer.add_sliding_window(architecture.n_swa)
    _add_keys(writer, name, architecture.keys)
    tensors = {"token_embd.weight": (vocab, e), **architecture.model}
    for i in range(n_layer):
        layer = architecture.layers[i % len(architecture.layers)].items()
        tensors.update({f"blk.{i}.{tensor}": shape for tensor, shape in layer})
    _write(writer, tensors, type, type if experts is None else experts)
    return path


def _add_keys(writer: gguf.GGUFWriter, name: str, keys: Keys) -> None:
    for key, value in keys.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(f"{name}.{key}", value)


def _write(
    writer: gguf.GGUFWriter, tensors: Shapes, type: GGMLType, experts: GGMLType
) -> None:
    rng = np.random.default_rng(SEED)
    for name, shape in tensors.items():
        values = _random(name, shape, rng)
        if len(shape) == 1 or any(part in name for part in ALWAYS_F32):
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
    if name.endswith("ssm_a"):
        return -np.exp(noise)  # a state decays
    if name.endswith("weight") and ("norm" in name or "_ln." in name):
        return 1 + noise / 10
    matrix = len(shape) > 1 and name.endswith(".weight")
    return noise / np.float32(shape[-1] ** 0.5 if matrix else 10)
