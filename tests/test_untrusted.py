from __future__ import annotations

import json
from pathlib import Path

import pytest

from ggrpc.untrusted import printable, to_file_name, to_json
from tests.support.hostile_files import NAMES, PATHS


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_only_visible_characters_are_left(name: str) -> None:
    assert printable(name).isprintable()
    assert printable(name) != name
    assert to_json(name).isprintable()
    assert json.loads(to_json(name)) == name


def test_visible_text_stays_as_it_is() -> None:
    for name in "blk.0.attn_q.weight", "Qcur-0 (view)", "größe 重み", "":
        assert printable(name) == name


def test_surrogates_are_escaped() -> None:
    assert printable("\udce9") == r"\udce9"
    assert to_file_name("\udce9") == "%ED%B3%A9"


@pytest.mark.parametrize("name", [*PATHS, *NAMES.values()])
def test_file_name_is_no_path(tmp_path: Path, name: str) -> None:
    for suffix in "", ".npy":
        file_name = to_file_name(name, suffix)
        assert file_name.isprintable()
        assert not file_name.startswith(".")
        path = tmp_path / file_name
        assert path.resolve().parent == tmp_path.resolve()
        path.touch()


def test_file_names_of_two_names_differ() -> None:
    names = [*PATHS, *NAMES.values(), "%", "%00", "%2F", "/", "%2E.", "a%2Fb"]
    assert len({to_file_name(name) for name in names}) == len(set(names))
    assert to_file_name("model.layers.0.weight", ".npy") == "model.layers.0.weight.npy"
