from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.engine.files.gguf import tensors_of
from ggrpc.engine.recording.substitute_weights import GgufWeights, random_weights
from ggrpc.errors import FileError
from ggrpc.formats.numpy_values import contiguous_tensor, dequantize
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.models import write_architecture


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    write_architecture(path, "llama", GGMLType.Q8_0)
    return path


@pytest.fixture
def tensor(path: Path) -> Tensor:
    """A tensor of the model, as a client sends it."""
    matrix = next(t for t in tensors_of(path) if len(t.ne) == 2)
    ne = (*matrix.ne, 1, 1)
    tensor = contiguous_tensor(GGMLType[matrix.type], ne)  # type: ignore[arg-type]
    return tensor._replace(raw_name=matrix.name.encode())


def test_tensor_is_found_by_name_and_size(path: Path, tensor: Tensor) -> None:
    model = GgufWeights(path)
    whole = model.bytes_of(tensor, 0, tensor.nbytes, 0)
    assert whole is not None
    assert bytes(whole) in path.read_bytes()
    part = model.bytes_of(tensor, 34, 68, 0)
    assert part == whole[34 : 34 + 68]
    assert model.bytes_of(tensor._replace(raw_name=b"other"), 0, 34, 0) is None
    smaller = tensor._replace(ne=(tensor.ne[0], 1, 1, 1))
    assert model.bytes_of(smaller, 0, 34, 0) is None
    assert model.bytes_of(tensor, 34, tensor.nbytes, 0) is None


def test_bytes_with_another_hash_are_not_used(path: Path, tensor: Tensor) -> None:
    model, size = GgufWeights(path), tensor.nbytes
    whole = model.bytes_of(tensor, 0, size, 0)
    assert whole is not None
    assert model.bytes_of(tensor, 0, size, fnv1a(whole)) == whole
    assert model.bytes_of(tensor, 0, size, fnv1a(whole) ^ 1) is None


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        GgufWeights(tmp_path / "none.gguf")


@pytest.mark.parametrize("type", ["F32", "F16", "BF16", "Q8_0", "Q4_K"])
def test_random_weights_are_repeatable_and_of_realistic_scale(type: str) -> None:
    tensor = contiguous_tensor(GGMLType[type], (256, 64, 1, 1))._replace(raw_name=b"w")
    data = random_weights(tensor, tensor.nbytes)
    assert len(data) == tensor.nbytes
    assert random_weights(tensor, tensor.nbytes) == data
    assert random_weights(tensor._replace(raw_name=b"v"), tensor.nbytes) != data
    values = dequantize(data, type, (64, 256))
    assert values.std() == pytest.approx(256**-0.5, rel=0.1)
    assert np.isfinite(values).all()


def test_random_weights_that_cannot_be_packed_are_zeros() -> None:
    tensor = contiguous_tensor(GGMLType.F32, (4, 1, 1, 1))
    assert random_weights(tensor, 7) == bytes(7)
    indices = contiguous_tensor(GGMLType.I32, (4, 1, 1, 1))
    assert random_weights(indices, 16) == bytes(16)
