"""Coverage-guided fuzzing with atheris, for a long time.

    pip install -e '.[fuzz]'
    python -m tests.fuzz.guided session -max_total_time=3600

The first argument is a target: codec, validation or session. The rest are libFuzzer's
flags and folders. New inputs go to the first folder. Failures are written to `crash-*`;
`python -m tests.fuzz.guided TARGET crash-*` reproduces them. tests/fuzz/test_targets.py
is the short version.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["ggrpc"]):
    from tests.fuzz.targets import TARGETS, Mutate

FLAGS = ("-max_len=65536", "-timeout=60", "-rss_limit_mb=4096")


def mutator(mutate: Mutate) -> object:
    """Mutate with the target's own mutation or libFuzzer's, at random."""

    def one(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return atheris.Mutate(data, len(data))
        return mutate(data, random)[:longest]

    return one


def main() -> None:
    """Fuzz until a limit in the flags or a failure."""
    name, *rest = sys.argv[1:]
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds()):
            (Path(folder) / f"{number:04}").write_bytes(seed)
        given = [argument for argument in rest if not argument.startswith("-")]
        flags = [argument for argument in rest if argument.startswith("-")]
        extra = {"custom_mutator": mutator(target.mutate)} if target.mutate else {}
        seeds = [] if any(map(Path.is_file, map(Path, given))) else [folder]
        argv = [sys.argv[0], *FLAGS, *flags, *given, *seeds]
        atheris.Setup(argv, target.run, **extra)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
