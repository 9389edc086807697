"""Drive llama.cpp's own client with each tensor split over two servers.

    python llama_tensor_split.py MODEL.gguf OUT.npy N_PREDICT ENDPOINT ENDPOINT

The arguments and the output are those of the peer's `llama_client.py`. The prompt is so
long that the servers reduce it as BF16; they reduce each later token as float32. The
log of the library goes to stderr.
"""

from __future__ import annotations

import sys

import llama_client  # before llama_cpp, for which it sets up the libraries
import llama_cpp
import numpy as np

TENSOR = 3  # LLAMA_SPLIT_MODE_TENSOR
PROMPT = 140


def main():
    model, out, n_predict, *endpoints = sys.argv[1:]
    for endpoint in endpoints:
        llama_client.register(endpoint)
    llama = llama_cpp.Llama(
        model,
        n_gpu_layers=-1,
        split_mode=TENSOR,
        flash_attn=True,  # a tensor split requires it
        n_ctx=256,
        n_batch=256,
        n_threads=1,
        seed=1,
    )
    tokens = [1] + [3 + 7 * i % 400 for i in range(PROMPT - 1)]
    batch, logits = tokens, []
    while True:
        llama.eval(batch)
        row = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
        logits.append(np.ctypeslib.as_array(row, (llama.n_vocab(),)).copy())
        if len(logits) > int(n_predict):
            break
        batch = [int(logits[-1].argmax())]
        tokens = tokens + batch
    np.save(out, np.array(logits))
    print(tokens)


if __name__ == "__main__":
    main()
