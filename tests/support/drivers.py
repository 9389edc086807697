"""The OpenCL device that tests run on: CI always has one."""

from __future__ import annotations

import os

import pytest

from ggrpc.devices.opencl.runtime.discovery import Found, discover, unusable_reason


def usable_device() -> Found:
    """The first that works; without one the test fails in CI, else it is skipped."""
    for found in discover():
        if not unusable_reason(found):
            return found
    missing = "needs an OpenCL driver: apt-get install pocl-opencl-icd"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
