"""Free a model, and then an adapter, while another model of the process is in use.

    python llama_frees.py MODEL.gguf OUT.npy N_PREDICT ENDPOINT [ENDPOINT ...]

The arguments and the output are those of the peer's `llama_client.py`. The adapter is
MODEL.gguf.lora. Each phase generates N_PREDICT tokens.
"""

from __future__ import annotations

import os
import sys

import llama_cpp as llama
import numpy as np
from llama_client import register

PROMPT = (1, 270, 301, 17, 490, 333)


def main():
    path, out, n_predict, *endpoints = sys.argv[1:]
    remote = [endpoint for endpoint in endpoints if endpoint != "local"]
    for endpoint in remote:
        register(endpoint)
    layers = {"n_gpu_layers": -1 if remote else 0}
    sizes = {"n_ctx": 256, "n_batch": 64, "n_threads": os.cpu_count()}
    one, other = (
        llama.Llama(path, **layers, **sizes, logits_all=True, verbose=False)
        for _ in range(2)
    )
    tokens, logits = [], []

    def generate(model, prompt):
        model.eval(prompt)
        for _ in range(int(n_predict)):
            logits.append(np.array(model.scores[model.n_tokens - 1], copy=True))
            tokens.append(int(logits[-1].argmax()))
            model.eval(tokens[-1:])

    generate(other, PROMPT[:3])
    generate(one, PROMPT)
    other.close()
    generate(one, PROMPT[:1])
    adapter = llama.llama_adapter_lora_init(one._model.model, f"{path}.lora".encode())
    use(one, adapter)
    generate(one, PROMPT[:1])
    use(one)
    llama.llama_adapter_lora_free(adapter)
    generate(one, PROMPT[:1])
    np.save(out, np.array(logits))
    print(tokens)


def use(model, *adapters):
    """Set the adapters of the next decode calls."""
    count = len(adapters)
    pointers = (llama.llama_adapter_lora_p_ctypes * count)(*adapters)
    scales = (llama.ctypes.c_float * count)(*[1.0] * count)
    assert llama.llama_set_adapters_lora(model.ctx, pointers, count, scales) == 0


if __name__ == "__main__":
    main()
