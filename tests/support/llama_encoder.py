"""Drive llama.cpp's own client with a model that encodes (bert, t5).

    python llama_encoder.py MODEL.gguf OUT.npy N_PREDICT ENDPOINT [ENDPOINT ...]

The arguments are those of the peer's `llama_client.py`. For a model with a decoder, OUT
gets the logits of each step, and the greedy tokens are printed, as by that program. For
a model without, OUT gets the pooled embedding, and no token is printed.
"""

from __future__ import annotations

import ctypes
import os
import sys

import llama_cpp as llama
import numpy as np
from llama_client import register

PROMPT = (1, 270, 301, 17, 490, 333)


def batch_of(tokens, first):
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, first + i
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        batch.logits[i] = True
    return batch


def array(pointer, count):
    floats = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(floats, (count,)).copy()


def decode(model, context, n_predict):
    n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    tokens, logits = [llama.llama_model_decoder_start_token(model)], []
    for i in range(n_predict):
        assert llama.llama_decode(context, batch_of(tokens[-1:], i)) == 0
        logits.append(array(llama.llama_get_logits_ith(context, 0), n_vocab))
        tokens.append(int(logits[-1].argmax()))
    return tokens, np.array(logits)


def main():
    path, out, n_predict, *endpoints = sys.argv[1:]
    remote = [endpoint for endpoint in endpoints if endpoint != "local"]
    for endpoint in remote:
        register(endpoint)
    model_params = llama.llama_model_default_params()
    model_params.n_gpu_layers = 99 if remote else 0
    model = llama.llama_model_load_from_file(path.encode(), model_params)
    # llama.cpp reports an encoder for t5 only, although bert encodes too.
    has_decoder = llama.llama_model_has_encoder(model)
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = os.cpu_count()
    params.embeddings = not has_decoder
    context = llama.llama_init_from_model(model, params)
    assert llama.llama_encode(context, batch_of(PROMPT, 0)) == 0
    if has_decoder:
        tokens, values = decode(model, context, int(n_predict))
    else:
        pooled = llama.llama_get_embeddings_seq(context, 0)
        tokens, values = [], array(pooled, llama.llama_model_n_embd(model))
    np.save(out, values)
    print(tokens)


if __name__ == "__main__":
    main()
