"""Kernels for all devices are plain OpenCL C 1.2 without extensions.

The strictest mode of clang stands in for the compilers of GPU drivers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.devices.opencl.ops.quantized import TYPES
from ggrpc.devices.opencl.predicates import CACHE_TYPES, PACKED_TYPES
from ggrpc.devices.opencl.runtime.build import FOLDERS, KERNELS, source_path
from ggrpc.types import FLOATS, GGMLType

CLANG = next(filter(None, map(shutil.which, ("clang", "clang-15", "clang-16"))), None)
INCLUDES = tuple(f"-I{KERNELS / folder}" for folder in FOLDERS)
STRICT = (
    *("-x", "cl", "-cl-std=CL1.2", "-Xclang", "-finclude-default-header"),
    *("-Xclang", "-cl-ext=-all", "-fsyntax-only"),
    *("-Werror", "-Wall", "-Wextra", "-pedantic", "-Wno-unused-parameter"),
)
TARGETS = ("spir64", "nvptx64", "amdgcn")

# Sources for processors, which use extensions of clang.
FOR_PROCESSORS = {
    "simd.h",
    "avx2.h",
    "vnni.h",
    "portable.h",
    "intrinsics.h",
    "attention.cl",
}

WIDTHS = {"WIDTH_K": 64, "WIDTH_V": 80, "KEYS": "Q5_1", "VALUES": "IQ4_NL"}
SETS = {"FROM": "F32", "TO": "BF16", "INDEX": "I64"}
DEFINES: dict[str, dict[str, object]] = {
    "activations": {"FUNCTION": "GELU_ERF", "GATED": "CLAMPED"},
    "arithmetic": {"FUNCTION": "CLAMP"},
    "copies": SETS,
    "gpu_attention": {**WIDTHS, "QUERIES": 8, "LOCAL": 64, "MASK": "F16", "SINKS": 1},
    "gpu_experts": {"TOKENS": 32},
    "linear_attention": {"SIZE": 64, "READS_FIRST": 1},
    "recurrent": {"COLUMNS": 4, "STATE": 16, "ONE_RATE": 0, "HAS_IDS": 1},
    "reductions": {"DESCENDING": 1, "SWAPPED": 1},
    "rope_cached": SETS,
    "soft_max": {"MASK": "F16", "SINKS": 1},
}
OF_EACH_TYPE = {
    "gpu_matvec": {"ROWS": 2, "TOKENS": 1, "LOCAL": 64},
    "gpu_matmat": {"ROWS": 64, "TOKENS": 32, "DEPTH": 2},
}


def programs() -> Iterator[tuple[str, dict[str, object]]]:
    """Every program for all devices, with defines that include all code."""
    for path in sorted(KERNELS.glob("*/*.cl")):
        family = path.stem
        if family in OF_EACH_TYPE:
            for type in sorted(TYPES | FLOATS):
                yield family, {"TYPE": int(type), **OF_EACH_TYPE[family]}
        elif not _is_for_processors(path.name):
            yield family, DEFINES.get(family, {})
    for type in sorted(PACKED_TYPES):
        yield "copies", {"FROM": "F32", "TO": type.name, "PACKS": 1, "INDEX": "I64"}
    for type in sorted(CACHE_TYPES - FLOATS):
        yield "copies", {"FROM": type.name, "TO": "F32", "UNPACKS": 1}


def _included(name: str) -> list[str]:
    lines = source_path(name).read_text().splitlines()
    return [line.split('"')[1] for line in lines if "#include" in line]


def _is_for_processors(name: str) -> bool:
    return name in FOR_PROCESSORS or any(map(_is_for_processors, _included(name)))


def _includes_vectors(name: str) -> bool:
    return name == "simd.h" or any(map(_includes_vectors, _included(name)))


# Programs with int8 dot products or vector types of processors, by their types.
OF_QUANTIZED: dict[str, dict[str, object]] = {
    "matvec": {"ROWS": 2, "AHEAD": 4096},
    "matvec_several": {
        "ROWS": 2,
        "AHEAD": 4096,
        "GATED": "SWIGLU",
        "QUANTIZE": 1,
        "BIASED": 1,
    },
    "matmat": {"TILE": 8, "CHUNK": 4096},
    "experts_matvec": {"ROWS": 2, "AHEAD": 4096},
    "experts_gated": {"ROWS": 2, "AHEAD": 4096, "GATED": "SWIGLU"},
    "experts_matmat": {"TILE": 8, "CHUNK": 4096},
}
OF_PLAIN: dict[str, dict[str, object]] = {
    "matvec_float": {"ROWS": 4},
    "matfew_float": {"TILE": 8},
    "matmat_float": {"TILE": 4, "CHUNK": 1024},
    "experts_matvec_float": {"ROWS": 4},
    "experts_matmat_float": {"TILE": 4, "CHUNK": 1024},
    "attention_row": {"HEADS": 8, "JOINED": 1, "QUANTIZE": 1, "MASK": "F16"},
}
# Those without a type are the same on all processors but for the proof of the dots.
OF_NONE: dict[str, dict[str, object]] = {
    "int8_dot": {},
    "quantize_rows": {"TILE": 8},
    "experts_quantize": {"TILE": 8},
    "norms_quantize": {"SUM": 1},
    "fnv1a": {"SIZE": 512, "CPU": 1},
}

# Targets that PoCL may fall back to, although the processor supports more.
LEAST = {"VNNI": "skylake-avx512", "AVX2": "x86-64-v2", "": "x86-64-v2"}


def processor_programs() -> Iterator[tuple[str, dict[str, object], str]]:
    """Programs that include simd.h, for each kind of dot products."""
    for dots in LEAST:
        for type in (GGMLType.Q4_0, GGMLType.Q8_0, GGMLType.Q4_K):
            for family, defines in OF_QUANTIZED.items():
                yield family, {"TYPE": int(type), **defines}, dots
        for family, defines in OF_PLAIN.items():
            yield family, {"TYPE": int(GGMLType.F16), **defines}, dots
    for family, defines in OF_NONE.items():
        for dots in LEAST if family == "int8_dot" else ("",):
            yield family, defines, dots


def _name(value: object) -> str:
    if isinstance(value, dict):
        return GGMLType(value["TYPE"]).name if "TYPE" in value else ""
    return str(value)


@pytest.mark.skipif(CLANG is None, reason="needs clang: apt-get install clang")
@pytest.mark.parametrize(("family", "defines"), [*programs()], ids=_name)
def test_kernels_are_plain_opencl_c(family: str, defines: dict[str, object]) -> None:
    assert CLANG
    given = [f"-D{name}={value}" for name, value in defines.items()]
    for target in TARGETS:
        command = [
            CLANG,
            *STRICT,
            *INCLUDES,
            "-target",
            target,
            *given,
            str(source_path(f"{family}.cl")),
        ]
        result = subprocess.run(command, capture_output=True, text=True)
        assert not result.returncode, result.stderr


@pytest.mark.skipif(CLANG is None, reason="needs clang: apt-get install clang")
@pytest.mark.parametrize(
    ("family", "defines", "dots"), [*processor_programs()], ids=_name
)
def test_kernels_build_where_the_driver_takes_a_processor_for_less(
    family: str, defines: dict[str, object], dots: str
) -> None:
    """A kernel that gets a function inlined which is for more does not."""
    _compile(family, defines, dots, "x86_64-linux-gnu", f"-march={LEAST[dots]}")


@pytest.mark.skipif(CLANG is None, reason="needs clang: apt-get install clang")
@pytest.mark.parametrize(
    ("family", "defines", "dots"), [*processor_programs()], ids=_name
)
def test_kernels_build_by_way_of_spir(
    family: str, defines: dict[str, object], dots: str
) -> None:
    """As Intel's driver builds them, whose front end lacks the builtins for x86."""
    _compile(family, defines, dots, "spir64", "-Xclang", "-cl-ext=+cl_khr_fp16")


def _compile(
    family: str, defines: dict[str, object], dots: str, target: str, *options: str
) -> None:
    assert CLANG
    given = [f"-D{name}={value}" for name, value in defines.items()]
    given += [f"-D{dots}"] if dots else []
    made = "-w", "-S", "-emit-llvm", "-o", os.devnull
    command = [
        CLANG,
        *STRICT[:5],
        *INCLUDES,
        *("-target", target, *options),
        *given,
        *made,
        str(source_path(f"{family}.cl")),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.returncode, result.stderr


def test_all_programs_for_processors_are_built_for_less() -> None:
    built = {family for family, _, _ in processor_programs()}
    assert built == {
        p.stem for p in KERNELS.glob("*/*.cl") if _includes_vectors(p.name)
    }


@pytest.mark.parametrize(
    "path", sorted(KERNELS.glob("*/*")), ids=lambda path: path.name
)
def test_kernels_use_nothing_of_one_compiler(path: Path) -> None:
    if not _is_for_processors(path.name):
        for word in ("__builtin", "ext_vector_type", "noinline", "always_inline"):
            assert word not in path.read_text()
