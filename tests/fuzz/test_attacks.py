"""Hostile requests to a live server, which must not affect other clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random

import pytest

from tests.fuzz.attacks import FAMILIES
from tests.support.attacker import Attacker, Bystander, ClosedError, attacking
from tests.support.cases import all_cases
from tests.support.mutations import mutated
from tests.support.processes import Served, serving

SEEDS = 4
GRAPHS_A_SEED = 60


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--threads", "1") as served:
        yield served


@pytest.fixture(scope="module")
def bystander(served: Served) -> Iterator[Bystander]:
    bystander = Bystander(served.endpoint)
    yield bystander
    bystander.close()


def assert_unaffected(served: Served, bystander: Bystander, attacker: Attacker) -> None:
    assert served.process.poll() is None, served.log
    assert "a bug in ggrpc" not in served.log, served.log
    bystander.check(attacker)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_server_and_bystander_survive_broken(
    family, served: Served, bystander: Bystander
) -> None:  # type: ignore[no-untyped-def]
    for name, attack in family():
        with attacking(served.endpoint) as attacker:
            with suppress(ClosedError):
                attack(attacker)
            attacker.settle()
            try:
                assert_unaffected(served, bystander, attacker)
            except Exception as error:
                raise AssertionError(f"{family.__name__}: {name}") from error


@pytest.mark.parametrize("seed", range(SEEDS))
def test_server_and_bystander_survive_broken_ops(
    seed: int, served: Served, bystander: Bystander
) -> None:
    random, cases = Random(seed), all_cases()
    for number in range(GRAPHS_A_SEED):
        name = random.choice(sorted(cases))
        case = cases[name]
        with attacking(served.endpoint) as attacker:
            place = attacker.handle, attacker.handle
            graph = mutated(case, random, 2, *place)
            with suppress(ClosedError):
                attacker.write(case.image[: 1 << 16])
                attacker.compute(graph)
            attacker.settle()
            try:
                assert_unaffected(served, bystander, attacker)
            except Exception as error:
                raise AssertionError(f"{seed}, {number}: {name}") from error
