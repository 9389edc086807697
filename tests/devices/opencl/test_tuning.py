"""The search for work-group shapes, with products so small that it is fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.devices.opencl import OpenClDevice, tuning
from ggrpc.devices.opencl.runtime import launch_config
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig, launch_config_of
from ggrpc.devices.opencl.tuning import Trial, trials_of, tune
from ggrpc.devices.opencl.runtime.work_group import WorkGroup
from ggrpc.errors import DeviceError
from tests.devices.conftest import open_opencl


@pytest.fixture(params=["processor", "gpu"])
def device(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenClDevice]:
    monkeypatch.setattr(tuning, "COLUMNS", 64)
    monkeypatch.setattr(tuning, "ROWS", 96)
    for trials in ("CPU_TRIALS", "GPU_TRIALS"):
        few = [
            trial._replace(candidates=trial.candidates[:2])
            for trial in getattr(tuning, trials)
        ]
        monkeypatch.setattr(tuning, trials, few)
    device = open_opencl(shares_memory=request.param == "processor")
    # The other folders stay, so that kernels need not be compiled again.
    monkeypatch.setattr(
        launch_config, "path_of", lambda device: tmp_path / "shapes.json"
    )
    yield device
    device.close()


def seconds(monkeypatch: pytest.MonkeyPatch, of: dict[int, float]) -> None:
    """Replace the duration of programs by the first value of their shapes."""
    monkeypatch.setattr(
        tuning, "_fastest", lambda programs: {each: of[each[0]] for each in programs}
    )


def test_every_trial_is_made_and_the_choice_kept(device: OpenClDevice) -> None:
    fields = [trial.fields for trial in trials_of(device)]
    choices = list(tune(device))
    assert [choice.fields for choice in choices] == fields
    for choice, trial in zip(choices, trials_of(device), strict=True):
        assert choice.best in {choice.default, *trial.candidates}
        assert choice.best == choice.default or choice.best_ms < choice.default_ms
    found = launch_config_of(device.queue.device)
    assert device.traits.launch_config == found
    for choice in choices:
        assert tuple(getattr(found, name) for name in choice.fields) == choice.best


def test_what_is_faster_by_noise_alone_is_not_chosen(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(("bands",), ((4,), (8,)), 1)
    monkeypatch.setattr(tuning, "trials_of", lambda device: [trial])
    seconds(monkeypatch, {4: 0.99, 8: 1.0})
    (choice,) = tune(device)
    assert choice.best == choice.default == (8,)
    seconds(monkeypatch, {4: 0.9, 8: 1.0})
    (choice,) = tune(device)
    assert choice.best == (4,)
    assert launch_config_of(device.queue.device) == LaunchConfig(bands=4)


def test_what_the_device_cannot_do_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_opencl(shares_memory=False)
    # Tiles of 512 by 1024 want more work-items than any driver gives.
    trial = Trial(("tile_rows", "tile_tokens"), ((512, 1024), (64, 64)), 600)
    monkeypatch.setattr(tuning, "COLUMNS", 32)
    monkeypatch.setattr(tuning, "ROWS", 32)
    choice = tuning._choice(device, LaunchConfig(), trial)
    assert choice.best == (64, 64)
    device.close()


def test_candidates_beyond_what_the_device_says_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[set[tuple[int, ...]]] = []

    def fastest(programs: dict[tuple[int, ...], object]) -> dict[tuple[int, ...], int]:
        compared.append({*programs})
        return dict.fromkeys(programs, 1)

    monkeypatch.setattr(tuning, "_fastest", fastest)
    monkeypatch.setattr(tuning, "COLUMNS", 32)
    monkeypatch.setattr(tuning, "ROWS", 32)
    deep = LaunchConfig(depth=4)
    with open_opencl(shares_memory=False) as device:
        device.traits = device.traits._replace(max_group=WorkGroup(128, 48 << 10))
        for trial in tuning.GPU_TRIALS:
            config = deep if "tile_rows" in trial.fields else LaunchConfig()
            tuning._choice(device, config, trial)
    items, rows, tiles, depths = compared
    assert items == {(32,), (64,), (128,)}
    assert rows == {(1,), (2,), (4,)}
    # Tiles of 128 by 64 need 50 KiB, and those of 128 by 128 256 work-items.
    assert tiles == {(32, 32), (64, 32), (64, 64)}
    assert depths == {(1,), (2,), (4,)}


def test_choice_that_cannot_be_kept_is_a_device_error(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "trials_of", lambda device: [])
    launch_config.path_of(device.queue.device).mkdir()
    with pytest.raises(DeviceError, match=r"^opencl:0: .* cannot be stored: "):
        list(tune(device))
