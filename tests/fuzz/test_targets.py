"""What the long job of tests/fuzz/guided.py does, on its seeds and near them."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.targets import TARGETS, Target

SEEDS = 40
SPOILT = 5  # times that each of them is


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


def some_seeds(target: Target) -> list[bytes]:
    """Some from all over them."""
    seeds = list(target.seeds())
    return seeds[:: max(1, len(seeds) // SEEDS)]


def spoilt(seed: bytes, target: Target, random: Random) -> bytes:
    """As a fuzzer without a notion of coverage does it."""
    if target.mutate and random.random() < 0.5:
        return target.mutate(seed, random)
    data = bytearray(seed)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data))
        data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(data[: random.choice((len(data), random.randrange(len(data))))])


def test_target_takes_its_seeds(target: Target) -> None:
    seeds = some_seeds(target)
    assert len(seeds) >= 10
    for seed in seeds:
        target.run(seed)


def test_target_takes_spoilt_seeds(target: Target) -> None:
    random = Random(0)
    for seed in some_seeds(target):
        for _ in range(SPOILT):
            target.run(spoilt(seed, target, random))


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 1000])
def test_target_takes_anything(target: Target, data: bytes) -> None:
    target.run(data)
