"""The file of measured work-group shapes; a damaged file is ignored with a log line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyopencl as cl
import pytest

from ggrpc.devices.opencl.runtime.launch_config import (
    LaunchConfig,
    is_stored,
    launch_config_of,
    path_of,
    store,
)
from ggrpc.devices.opencl.runtime.work_group import WorkGroup
from tests.support.drivers import usable_device


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cl.Device:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return usable_device().device


def test_kept_shapes_are_found_again(device: cl.Device) -> None:
    assert launch_config_of(device) == LaunchConfig()
    assert not is_stored(device)
    measured = LaunchConfig(bands=4, tile_rows=128)
    assert store(device, measured) == path_of(device)
    assert launch_config_of(device) == measured
    assert is_stored(device)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: b"{", "Expecting property name"),
        (lambda file: b"\xff", "can't decode"),
        (lambda file: b"[1]", "not of version 2"),
        (lambda file: file | {"version": 1}, "not of version 2"),
        (lambda file: file | {"shapes": {"bands": 4}}, "its shapes have other names"),
        (lambda file: _with(file, "bands", 0), "'bands' is not a power of two"),
        (lambda file: _with(file, "bands", 3), "'bands' is not a power of two"),
        (lambda file: _with(file, "tile", True), "'tile' is not a power of two"),
        (lambda file: _with(file, "items", 1 << 20), "'items' is not a power of two"),
        (lambda file: _with(file, "tile_rows", 4), "its tiles are too small"),
    ],
)
def test_bad_file_is_ignored_with_one_line(  # type: ignore[no-untyped-def]
    device: cl.Device, caplog: pytest.LogCaptureFixture, change, reason: str
) -> None:
    path = store(device, LaunchConfig(bands=4))
    changed = change(json.loads(path.read_text()))
    path.write_bytes(
        changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    )
    with caplog.at_level(logging.WARNING):
        assert launch_config_of(device) == LaunchConfig()
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert reason in record.getMessage()
    assert "ggrpc devices --tune" in record.getMessage()
    assert not is_stored(device)


@pytest.mark.parametrize(
    ("measured", "most", "reason"),
    [
        (
            LaunchConfig(tile_rows=128, tile_tokens=128, depth=4),
            WorkGroup(1024, 48 << 10),
            "its tiles take 256 work-items and 66.5 KiB, and the device allows 1024",
        ),
        (
            LaunchConfig(items=256, rows=4),
            WorkGroup(128, 48 << 10),
            "its items and rows take 256 work-items and 32 KiB, and the device allows",
        ),
    ],
)
def test_file_with_more_than_the_device_allows_is_ignored_with_one_line(
    device: cl.Device,
    caplog: pytest.LogCaptureFixture,
    measured: LaunchConfig,
    most: WorkGroup,
    reason: str,
) -> None:
    path = store(device, measured)
    assert launch_config_of(device, WorkGroup(1024, 128 << 10)) == measured
    assert launch_config_of(device) == measured  # a processor's kernels ignore them
    assert not caplog.records
    assert launch_config_of(device, most) == LaunchConfig()
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert reason in record.getMessage()
    assert "ggrpc devices --tune" in record.getMessage()


@pytest.mark.parametrize("most", [WorkGroup(64, 32 << 10), WorkGroup(16, 4 << 10)])
@pytest.mark.parametrize("large", [LaunchConfig(), LaunchConfig(4, 4, 0, 8, 8, 256, 4)])
def test_smaller_work_groups_end_with_one_that_fits(
    large: LaunchConfig, most: WorkGroup
) -> None:
    matvecs, tiles = [*large.smaller_matvecs()], [*large.smaller_tiles()]
    assert matvecs[0] == tiles[0] == large
    assert matvecs[-1].matvec_group().fits(most)
    assert tiles[-1].tile_group(tiles[-1].tile_tokens).fits(most)
    for config in matvecs + tiles:
        assert min(config.tile_rows, config.tile_tokens // 2) >= 8


def _with(file: dict[str, dict[str, object]], name: str, value: object) -> object:
    return file | {"shapes": file["shapes"] | {name: value}}
