from __future__ import annotations

import subprocess
import sys

import pytest

import ggrpc


def test_all_names_can_be_imported() -> None:
    assert sorted(ggrpc.__all__) == ggrpc.__all__
    assert set(ggrpc.__all__) <= set(dir(ggrpc))
    for name in ggrpc.__all__:
        assert getattr(ggrpc, name).__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'ggrpc' has no attribute 'conect'"):
        ggrpc.conect  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import ggrpc, sys; print([m for m in ('numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
