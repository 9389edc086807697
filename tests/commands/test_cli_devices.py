from __future__ import annotations

import pytest

from ggrpc.devices.catalogue import DeviceListing, Tuning
from ggrpc.devices.opencl.tuning import Choice

CPU = DeviceListing("cpu", "Some Processor", 3 << 30, 4 << 30, 4 << 30)
GPU = DeviceListing("opencl:0", "GPU (Maker)", None, 8 << 30, 2 << 30, "no kernels yet")


@pytest.fixture
def machine(monkeypatch):  # type: ignore[no-untyped-def]
    """Sets the devices of the machine."""
    return lambda *entries: monkeypatch.setattr(
        "ggrpc.devices.catalogue.entries", lambda: list(entries)
    )


def test_devices_show_memory_and_the_reason(piped, machine) -> None:  # type: ignore[no-untyped-def]
    machine(CPU, GPU)
    assert piped("devices") == (
        0,
        "NAME      DESCRIPTION        FREE    TOTAL  LARGEST  USABLE  REASON\n"
        "cpu       Some Processor  3.0 GiB  4.0 GiB  4.0 GiB  yes     -\n"
        "opencl:0  GPU (Maker)           -  8.0 GiB  2.0 GiB  no      no kernels yet\n",
        "",
    )


def test_devices_json_has_flat_rows_with_units(piped, machine) -> None:  # type: ignore[no-untyped-def]
    machine(CPU, GPU)
    outcome = piped("devices", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.rows == [
        {
            "name": "cpu",
            "description": "Some Processor",
            "memory_free_bytes": 3 << 30,
            "memory_total_bytes": 4 << 30,
            "max_buffer_bytes": 4 << 30,
            "usable": True,
            "reason": None,
        },
        {
            "name": "opencl:0",
            "description": "GPU (Maker)",
            "memory_free_bytes": None,
            "memory_total_bytes": 8 << 30,
            "max_buffer_bytes": 2 << 30,
            "usable": False,
            "reason": "no kernels yet",
        },
    ]


def test_devices_in_a_terminal_colour_the_state_alone(typed, machine) -> None:  # type: ignore[no-untyped-def]
    machine(CPU, GPU)
    code, out, err = typed("devices")
    assert (code, err) == (0, "")
    assert "\x1b[32myes\x1b[0m" in out
    assert "\x1b[31mno\x1b[0m" in out


def test_missing_driver_is_noted_to_a_person_alone(typed, piped, machine) -> None:  # type: ignore[no-untyped-def]
    machine(CPU)
    assert (
        typed("devices").err
        == "ggrpc: note: no OpenCL driver is installed on this machine\n"
    )
    assert typed("devices", "-q").err == ""
    assert piped("devices").err == ""


def test_this_machine_has_a_usable_cpu(piped) -> None:  # type: ignore[no-untyped-def]
    cpu, *others = piped("devices", "--json").rows
    assert cpu["name"] == "cpu"
    assert cpu["usable"]
    assert 0 < cpu["memory_free_bytes"] <= cpu["memory_total_bytes"]
    assert all(row["usable"] != bool(row["reason"]) for row in others)


def test_tuning_shows_each_choice(piped, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    choices = [
        Choice(("bands",), (8,), (4,), 2.5, 2.0),
        Choice(("tile_rows", "tile_tokens"), (64, 64), (64, 64), 9.0, 9.0),
    ]
    tuning = Tuning("opencl:0", 2, lambda: iter(choices))
    monkeypatch.setattr("ggrpc.devices.catalogue.tunings", lambda: [tuning])
    assert piped("devices", "--tune") == (
        0,
        "DEVICE    SHAPE                    DEFAULT     BEST  DEFAULT MS  BEST MS\n"
        "opencl:0  bands                          8        4        2.50     2.00\n"
        "opencl:0  tile_rows x tile_tokens  64 x 64  64 x 64        9.00     9.00\n",
        "",
    )
    first = piped("devices", "--tune", "--json").rows[0]
    assert first == {
        "device": "opencl:0",
        "shape": "bands",
        "default": "8",
        "best": "4",
        "default_ms": 2.5,
        "best_ms": 2.0,
    }


def test_tuning_without_an_opencl_device_exits_8(piped, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("ggrpc.devices.catalogue._opencl_entries", list)
    code, out, err = piped("devices", "--tune")
    assert (code, out) == (8, "")
    assert "there is no usable OpenCL device to tune" in err
