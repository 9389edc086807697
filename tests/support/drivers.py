"""The OpenCL device that tests use. CI always has one."""

from __future__ import annotations

import os

import pytest

from ggrpc.devices.opencl.runtime.discovery import Found, discover, unusable_reason


def usable_device() -> Found:
    """The first device that works; without one, CI fails, and others skip the test."""
    for found in discover():
        if not unusable_reason(found):
            return found
    missing = "needs an OpenCL driver: apt-get install pocl-opencl-icd"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
