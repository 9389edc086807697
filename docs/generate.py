"""Write the pages of the docs, and the stubs, that are made from the code.

    python docs/generate.py [--check]

With --check nothing is written, and the exit code is 1 where a page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ggrpc.building.stub import stub
from ggrpc.devices.cpu.program import is_supported as cpu_computes
from ggrpc.devices.opencl import program as opencl
from ggrpc.ops import CONTRACTS, Contract, Node
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import FLOATS, QUANTIZED, GGMLType

NE = (256, 1, 1, 1)  # a block of every type

OPS = """# What each device computes

Made by `python docs/generate.py` from the contracts (`ggrpc/ops/`) and from the kernels
that each device registers; change those, not this page.

A source is named as in ggml's constructor; in brackets are those that may be absent.
*floats* are F32, F16 and BF16; *quantized* are {quantized}.
The cpu device computes what its column says: `all` types of the contract, or all but
some. OpenCL devices compute the same; their column says what they have kernels of their
own for (of rows without gaps, and where shapes allow it), with the types of the first
source. All else the cpu computes for them, over the same memory.
CUSTOM, MAP_CUSTOM1, MAP_CUSTOM2 and MAP_CUSTOM3 carry function pointers of the client
and are refused by name.

| op | sources | result | cpu | OpenCL |
|---|---|---|---|---|
"""


def ops_page() -> str:
    """The table op by type by device."""
    quantized = ", ".join(t.name for t in GGMLType if t in QUANTIZED)
    head = OPS.format(quantized=quantized)
    rows = (_row(contract) for _, contract in sorted(CONTRACTS.items(), key=_name))
    return head + "".join(rows)


def _name(item: tuple[object, Contract]) -> str:
    return item[1].op.name


def _row(contract: Contract) -> str:
    sources = "; ".join(
        f"[{s.name}: {_types(s.types)}]"
        if s.optional
        else f"{s.name}: {_types(s.types)}"
        for s in contract.sources
    )
    cells = [f"`{contract.op.name}`", sources, _types(contract.result)]
    lacks = [name for name, node in _nodes(contract) if not cpu_computes(node)]
    cells.append(f"not {', '.join(lacks)}" if lacks else "all")
    cells.append(_own_kernels(contract))
    return "| " + " | ".join(cells) + " |\n"


def _own_kernels(contract: Contract) -> str:
    """The types of the first source for which there is an OpenCL kernel."""
    if contract.op not in opencl.KERNELS:
        return "none" if contract.computes else "all"
    first = contract.sources[0]
    types = set()
    for name, node in _nodes(contract):
        source, type = name.rsplit(" ", 1)
        if source == first.name and opencl.is_supported(node):
            types.add(GGMLType[type])
    return "all" if types == first.types else _types(frozenset(types)) or "some"


def _types(types: frozenset[GGMLType]) -> str:
    """A set of types by the names of the groups that it holds, then one by one."""
    if types == frozenset(GGMLType):
        return "any"
    words = []
    for word, group in (("floats", FLOATS), ("quantized", QUANTIZED)):
        if group <= types:
            words.append(word)
            types = types - group
    return ", ".join(words + [t.name for t in GGMLType if t in types])


def _nodes(contract: Contract) -> Iterator[tuple[str, Node]]:
    """A node for each type of each source and of the result, the others plain."""
    names = [*(source.name for source in contract.sources), "result"]
    allowed = [*(source.types for source in contract.sources), contract.result]
    plain = [_plain(types) for types in allowed]
    for at, types in enumerate(allowed):
        for type in (t for t in GGMLType if t in types):
            tensors = [_tensor(t, contract) for t in plain]
            tensors[at] = _tensor(type, contract)
            params = contract.unpack_params(tensors[-1].op_params)
            node = Node(tensors[-1], tuple(tensors[:-1]), params)
            yield f"{names[at]} {type.name}", node


def _plain(types: frozenset[GGMLType]) -> GGMLType:
    return GGMLType.F32 if GGMLType.F32 in types else min(types)


def _tensor(type: GGMLType, contract: Contract) -> Tensor:
    return Tensor(1, type, 1, NE, contiguous_nb(type, NE), contract.op)


PAGES = {"ops.md": ops_page, "../ggrpc/building/methods.pyi": stub}


def main() -> int:
    """Write or check every page; the exit code."""
    check = "--check" in sys.argv[1:]
    stale = False
    for name, page in PAGES.items():
        path = Path(__file__).parent / name
        text = page()
        if check and (not path.exists() or path.read_text() != text):
            print(f"{name} is out of date: run python docs/generate.py")
            stale = True
        elif not check:
            path.write_text(text)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
