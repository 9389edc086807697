"""Checks that two runs of a model generated the same tokens from similar logits."""

from __future__ import annotations

import numpy as np

from ggrpc.formats.nmse import nmse

# Relative to the root mean square of the logits; an NMSE of 1e-6 allows it.
TIE = 1e-3

Generation = tuple[list[int], np.ndarray]  # all tokens, and float32 (steps, n_vocab)


def assert_same_generation(ours: Generation, theirs: Generation, limit: float) -> None:
    """Compare two generations up to the first step at which their tokens differ.

    The tokens may differ only at a tie, where the two highest logits of `theirs` are
    closer than `TIE`. Even two processors that run llama.cpp can choose differently
    then.

    Args:
        ours: the generation of a server.
        theirs: the generation of llama.cpp on the local processor.
        limit: the maximum of the normalised mean squared error of the logits.
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
    is_tie = best - second < TIE * np.sqrt(np.mean(last**2))
    assert is_tie, f"step {steps} chose another token, and not at a tie"
    prompt = len(expected) - len(reference) + 1
    assert tokens[: prompt + steps - 1] == expected[: prompt + steps - 1]
