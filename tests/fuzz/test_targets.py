"""The targets of tests/fuzz/guided.py, with their seeds, mutations and random bytes."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.targets import TARGETS, Target

SEEDS = 40
MUTANTS = 5  # of each seed


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


def some_seeds(target: Target) -> list[bytes]:
    """About SEEDS seeds of a target, evenly spread over all."""
    seeds = list(target.seeds())
    return seeds[:: max(1, len(seeds) // SEEDS)]


def mutant(seed: bytes, target: Target, random: Random) -> bytes:
    """A seed with random changes, as a fuzzer without coverage makes them."""
    if target.mutate and random.random() < 0.5:
        return target.mutate(seed, random)
    data = bytearray(seed)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data))
        data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(data[: random.choice((len(data), random.randrange(len(data))))])


def test_target_accepts_its_seeds(target: Target) -> None:
    seeds = some_seeds(target)
    assert len(seeds) >= 10
    for seed in seeds:
        target.run(seed)


def test_target_survives_mutated_seeds(target: Target) -> None:
    random = Random(0)
    for seed in some_seeds(target):
        for _ in range(MUTANTS):
            target.run(mutant(seed, target, random))


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 1000])
def test_target_survives_random_bytes(target: Target, data: bytes) -> None:
    target.run(data)
