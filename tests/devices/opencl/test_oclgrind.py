"""The kernels for GPUs on Oclgrind, which reports races and accesses out of bounds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pyopencl as cl
import pytest

from ggrpc.devices.device import Placed
from ggrpc.devices.opencl.runtime.build import KERNELS, KernelKey, Owned
from ggrpc.devices.opencl.runtime.work_group import WorkGroup
from tests.conftest import runs_all
from tests.devices.conftest import open_opencl
from tests.devices.opencl.fusions.patterns import PATTERNS
from tests.devices.opencl.fusions.test_shared_memory import case_of
from tests.devices.opencl.simulated.ops import runs
from tests.support import cases
from tests.support.case import BASE, HANDLE
from tests.support.oclgrind import Simulated, simulate

FOLDER = Path(__file__).with_name("simulated")
GROUPS = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "conftest"}


class Plant(NamedTuple):
    """A defect to plant in a kernel.

    Attributes:
        file: the source, in `kernels/`.
        text: what is replaced, at its first place.
        by: what takes its place.
        report: what the simulator says of it.
    """

    file: str
    text: str
    by: str
    report: str


class Recording:
    """A builder that notes the sources of kernels, and builds none of them.

    Args:
        families: the names of the sources.
        stand_in: a program with a kernel `twice` for all of them.
    """

    def __init__(self, families: set[str], stand_in: cl.Program) -> None:
        self._families = families
        self._kernel = cl.Kernel(stand_in, "twice")

    def kernel(self, key: KernelKey) -> Owned:
        self._families.add(key.family)
        return Owned(self._kernel, key)

    def group(self, key: KernelKey) -> WorkGroup:
        return WorkGroup(1 << 10, 0)

    def give_back(self, kernels: object) -> None:
        pass


BARRIER = "barrier(CLK_LOCAL_MEM_FENCE);"
PLANTS = {
    "local_race": Plant("gpu/gpu_matmat.cl", BARRIER, "", "Read-write data race"),
    "global_race": Plant(
        "gpu/gpu_matvec.cl",
        "for EACH(r, rows) to[t][r] =",
        "for (int r = 0; r < rows; r++) to[t][r] =",
        "Write-write data race",
    ),
    "read_past_the_end": Plant(
        "gpu/gpu_matvec.cl", "(k + 15) / 16", "(k + 15) / 16 + 512", "Invalid read"
    ),
    "write_past_the_end": Plant(
        "gpu/gpu_matvec.cl", "to[t][r] =", "to[t][r + (1 << 20)] =", "Invalid write"
    ),
}


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_kernels_for_gpus_have_no_races_and_stay_in_bounds(
    request: pytest.FixtureRequest, tmp_path: Path, group: str
) -> None:
    every = ["--all"] if runs_all(request.config) else []
    result = simulate(tmp_path, str(FOLDER / f"{group}.py"), *every)
    assert result.code == 0, _told(result)
    assert "skipped" not in result.output, _told(result)
    assert result.reports == "", _told(result)


def test_every_kernel_for_gpus_is_among_the_simulated() -> None:
    graphs = [case for case in cases.all_cases().values() if runs(case)]
    graphs += map(case_of, PATTERNS)
    with open_opencl(shares_memory=False) as device:
        families = {"fnv1a", "proof"}  # of hashes, and of the search for devices
        builder = Recording(families, device.builder.program("proof"))
        device.builder = builder  # type: ignore[assignment]
        for case in graphs:
            buffer = device.allocate(case.size)
            device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
            buffer.free()
    for_gpus = {p.stem for f in ("common", "gpu") for p in (KERNELS / f).glob("*.cl")}
    assert families == for_gpus


@pytest.mark.parametrize("name", PLANTS)
def test_planted_defect_is_reported(tmp_path: Path, name: str) -> None:
    plant = PLANTS[name]
    kernels = shutil.copytree(KERNELS, tmp_path / "kernels")
    source = kernels / plant.file
    sound = source.read_text()
    assert plant.text in sound
    source.write_text(sound.replace(plant.text, plant.by, 1))
    rows = 19 if "matmat" in plant.file else 1
    test = f"{FOLDER / 'products.py'}::test_products[Q8_0-{rows}]"
    result = simulate(tmp_path, test, "--kernels", str(kernels))
    assert plant.report in (result.reports or ""), _told(result)


def _told(result: Simulated) -> str:
    return f"{result.output}\n{result.reports}"
