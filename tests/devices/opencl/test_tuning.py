"""The search for work-group shapes, with products so small that it is fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.devices.opencl import OpenClDevice, tuning
from ggrpc.devices.opencl.runtime import launch_config, speed
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig, launch_config_of
from ggrpc.devices.opencl.runtime.work_group import WorkGroup
from ggrpc.devices.opencl.tuning import Trial, trials_of, tune
from ggrpc.errors import DeviceError
from tests.devices.conftest import open_opencl
from tests.devices.opencl.test_work_groups import allow_items


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
    monkeypatch.setattr(speed, "_name", lambda device: str(tmp_path / "speed"))
    yield device
    device.close()


def seconds(monkeypatch: pytest.MonkeyPatch, of: dict[int, float]) -> None:
    """Replace the duration of programs by the first value of their shapes."""
    monkeypatch.setattr(
        tuning,
        "_fastest",
        lambda programs: {each: of[each[0]] if each else 1.0 for each in programs},
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


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[set[tuple[int, ...]]]:
    """The values that each trial compares, none of which is faster."""
    compared: list[set[tuple[int, ...]]] = []

    def fastest(programs: dict[tuple[int, ...], object]) -> dict[tuple[int, ...], int]:
        compared.append({*programs})
        return dict.fromkeys(programs, 1)

    monkeypatch.setattr(tuning, "_fastest", fastest)
    monkeypatch.setattr(tuning, "COLUMNS", 32)
    monkeypatch.setattr(tuning, "ROWS", 32)
    return compared


@pytest.mark.parametrize(
    ("most", "items", "rows", "tiles", "depths"),
    [
        (
            # Tiles of 128 by 64 in depth 4 need 50 KiB; all others need less.
            WorkGroup(128, 48 << 10),
            {32, 64, 128},
            {1, 2, 4},
            {(32, 32), (64, 32), (64, 64), (128, 64)},
            {1, 2, 4},
        ),
        (
            # The defaults need 17.25 KiB.
            WorkGroup(64, 16 << 10),
            {32, 64},
            {1, 2, 4},
            {(32, 32), (64, 32), (64, 64)},
            {1},
        ),
    ],
    ids=["48_kib", "16_kib"],
)
def test_candidates_beyond_what_the_device_says_are_left_out(
    compared: list[set[tuple[int, ...]]],
    monkeypatch: pytest.MonkeyPatch,
    most: WorkGroup,
    items: set[int],
    rows: set[int],
    tiles: set[tuple[int, int]],
    depths: set[int],
) -> None:
    monkeypatch.setattr(tuning, "store", lambda device, config: None)
    with open_opencl(shares_memory=False) as device:
        device.traits = device.traits._replace(max_group=most)
        list(tune(device))
        assert not device.traits.launch_config.excess(most)
    found_items, found_rows, found_tiles, found_depths = compared
    assert found_items == {(n,) for n in items}
    assert found_rows == {(n,) for n in rows}
    assert found_tiles == tiles
    assert found_depths == {(n,) for n in depths}


def test_candidates_beyond_what_a_kernel_allows_are_left_out(
    compared: list[set[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_items(monkeypatch, 64)
    with open_opencl(shares_memory=False) as device:
        tuning._choice(device, LaunchConfig(), tuning.GPU_TRIALS[0])
    assert compared == [{(32,), (64,)}]


def test_choice_that_cannot_be_kept_is_a_device_error(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "trials_of", lambda device: [])
    launch_config.path_of(device.queue.device).mkdir()
    with pytest.raises(DeviceError, match=r"^opencl:0: .* cannot be stored: "):
        list(tune(device))
