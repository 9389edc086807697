"""Whether a model generated the same tokens, out of nearly the same logits."""

from __future__ import annotations

import numpy as np

from ggrpc.formats.nmse import nmse

TIE = 1e-3  # of the root mean square of the logits: what an NMSE of 1e-6 leaves open

Generation = tuple[list[int], np.ndarray]  # all tokens, and float32 (steps, n_vocab)


def demand_same(ours: Generation, theirs: Generation, limit: float) -> None:
    """Compare step by step, as far as both went the same way.

    They may part at a tie only: where the best two of `theirs` lie closer than `TIE`,
    which of them is chosen is chance, also between two processors that run llama.cpp.

    Args:
        ours: of a server.
        theirs: of llama.cpp's own processor.
        limit: the most that the normalised mean squared error of the logits may be.
    """
    (tokens, logits), (expected, reference) = ours, theirs
    parted = np.flatnonzero(logits.argmax(-1) != reference.argmax(-1))
    steps = int(parted[0]) + 1 if len(parted) else len(reference)
    assert nmse(logits[:steps], reference[:steps]) < limit
    if not len(parted):
        assert tokens == expected
        return
    last = reference[steps - 1]
    second, best = np.sort(last)[-2:]
    assert best - second < TIE * np.sqrt(np.mean(last**2)), "they part, at no tie"
    prompt = len(expected) - len(reference) + 1
    assert tokens[: prompt + steps - 1] == expected[: prompt + steps - 1]
