from __future__ import annotations

import os
from pathlib import Path

import pytest

from ggrpc.devices.opencl.runtime import packaged_driver
from ggrpc.devices.opencl.runtime.packaged_driver import CHOICES, HOME, LIBRARY, visible


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with the driver, and a loader that no operator configured."""
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(HOME, str(tmp_path / "pyopencl"))
    library = tmp_path / "environment" / LIBRARY
    library.parent.mkdir(parents=True)
    library.touch()
    return tmp_path / "environment"


def listed() -> dict[str, str]:
    """The drivers that the loader would find in the folder of pyopencl."""
    folder = Path(os.environ[HOME], ".libs")
    return {file.name: file.read_text().strip() for file in folder.glob("*.icd")}


def test_driver_of_the_environment_is_visible_for_a_while(prefix: Path) -> None:
    before = os.environ[HOME]
    with visible(str(prefix)):
        assert [*listed().values()] == [str(prefix / LIBRARY)]
        written = Path(os.environ[HOME])
    assert os.environ[HOME] == before
    assert not written.exists()


def test_drivers_beside_pyopencl_stay_visible(prefix: Path) -> None:
    folder = Path(os.environ[HOME], ".libs")
    folder.mkdir(parents=True)
    (folder / "pocl.icd").write_text("libpocl.so\n")
    with visible(str(prefix)):
        assert sorted(listed().values()) == [str(prefix / LIBRARY), "libpocl.so"]


def test_loader_without_a_home_gets_none(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HOME)
    with visible(str(prefix)):
        assert listed()
    assert HOME not in os.environ


def test_environment_without_the_driver_changes_nothing(
    prefix: Path, tmp_path: Path
) -> None:
    before = dict(os.environ)
    with visible(str(tmp_path)):
        assert dict(os.environ) == before


@pytest.mark.parametrize("name", CHOICES)
def test_variables_of_an_operator_win(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/etc/OpenCL/vendors/")
    before = dict(os.environ)
    with visible(str(prefix)):
        assert dict(os.environ) == before


def test_folder_that_cannot_be_written_hides_the_driver_only(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**named: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packaged_driver, "TemporaryDirectory", fail)
    before = dict(os.environ)
    with visible(str(prefix)):
        assert dict(os.environ) == before
