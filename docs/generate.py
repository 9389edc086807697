"""Write what is made from the code: pages of the docs, parts of pages, and the stubs.

    python docs/generate.py [--check]

With --check nothing is written, and the exit code is 1 where a page is out of date.
A part of a page stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ggrpc.building.stub import stub
from ggrpc.devices.cpu.kernel_table import is_supported as cpu_computes
from ggrpc.devices.opencl.kernel_table import CPU, KERNELS
from ggrpc.devices.opencl.kernel_table import is_supported as opencl_computes
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import DIALECTS, Dialect
from ggrpc.engine.wire.layouts import CAPS_BYTES, REPLIES, REQUESTS, TAILS
from ggrpc.engine.wire.tensors import RPC_TENSOR, TENSOR_BYTES
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
    if (contract.op, CPU) not in KERNELS:
        return "none" if contract.computes else "all"
    first = contract.sources[0]
    types = set()
    for name, node in _nodes(contract):
        source, type = name.rsplit(" ", 1)
        if source == first.name and opencl_computes(node, CPU):
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


PACKAGE = Path(__file__).parent.parent / "ggrpc"
SPLIT = ("engine", "devices")  # folders whose folders are drawn one by one
# Modules that are drawn apart from the files beside them.
SINGLE = {"ggrpc.graph": "graph.py", "ggrpc.devices.catalogue": "devices/catalogue.py"}
API, GROUND = "ggrpc/__init__.py", "ground"
FLOORS = {
    "commands and the Python API": ("commands", API),
    "engine": ("engine/",),
    "devices": ("devices",),
    "ground": ("building", "graph.py", "formats", "ops", GROUND),
}


def floors() -> str:
    """The imports between packages, as a drawing."""
    imports = _reduced(_imports())
    rooms = sorted(imports)
    lines = ["```mermaid", "flowchart TD"]
    for number, (floor, heads) in enumerate(FLOORS.items()):
        lines.append(f'  subgraph floor{number}["{floor}"]')
        lines += [
            f'    {_node_id(room)}["{room}"]'
            for room in rooms
            if any(room == head or room.startswith(head + "/") for head in heads)
            or room.startswith(tuple(head for head in heads if head.endswith("/")))
        ]
        lines.append("  end")
    lines += [
        f"  {_node_id(room)} --> {_node_id(target)}"
        for room in rooms
        for target in sorted(imports[room])
    ]
    return "\n".join([*lines, "```"])


def _node_id(room: str) -> str:
    return re.sub(r"\W", "_", room)


def _imports() -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    imports: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        room = _room(parts[:-1] if parts[-1] == "__init__" else parts)
        targets = {_room(module) for module in _modules(path)}
        imports.setdefault(room, set()).update(targets - {room})
    return {room: targets & imports.keys() for room, targets in imports.items()}


def _modules(path: Path) -> Iterator[tuple[str, ...]]:
    """The modules of ggrpc that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        parts = tuple(node.module.split("."))
        if parts[0] != PACKAGE.name:
            continue
        for alias in node.names:
            module = PACKAGE.parent.joinpath(*parts, alias.name)
            is_module = module.is_dir() or module.with_suffix(".py").exists()
            yield (*parts, alias.name) if is_module else parts


def _room(module: tuple[str, ...]) -> str:
    """The box that a module is drawn in."""
    single = SINGLE.get(".".join(module))
    if single:
        return single
    if len(module) == 1:
        return API
    folder = module[1]
    if not (PACKAGE / folder).is_dir():
        return "commands" if folder == "__main__" else GROUND
    is_inner = len(module) > 2 and (PACKAGE / folder / module[2]).is_dir()
    return f"{folder}/{module[2]}" if folder in SPLIT and is_inner else folder


def _reduced(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same without what is imported through others too."""
    return {
        room: {
            target
            for target in targets
            if not any(
                target in _reached(imports, other, {room})
                for other in targets - {target}
            )
        }
        for room, targets in imports.items()
    }


def _reached(imports: Mapping[str, set[str]], room: str, passed: set[str]) -> set[str]:
    """All that is imported from a room, directly or through others."""
    reached: set[str] = set()
    ahead = [room]
    while ahead:
        for target in imports[ahead.pop()] - reached - passed:
            reached.add(target)
            ahead.append(target)
    return reached


CODES = {
    "B": "u8",
    "I": "u32",
    "Q": "u64",
    "T": "rpc_tensor",
    "S": "rpc_tensor[10]",
    "C": f"u8[{CAPS_BYTES}]",
    "H": "char[64]",
}
DTYPES = {"<u8": "u64", "<u4": "u32", "<i4": "i32", "S64": "char[64]"}


def messages() -> str:
    """Every command with its request, its reply and the versions that have it."""
    rows = [
        "| # | command | request | reply | versions |",
        "|---|---|---|---|---|",
    ]
    for message, layout in sorted(REQUESTS, key=lambda row: row[0].command):
        command = message.command
        dialects = [d for d in DIALECTS if command in d.commands]
        reply = _reply(command, dialects)
        cells = [
            str(command.number),
            f"`{command.name}`",
            _fields(message, layout, dialects),
            reply,
            _versions(dialects, DIALECTS),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _reply(command: Command, dialects: list[Dialect]) -> str:
    """What answers a command."""
    answered = [d for d in dialects if command not in d.silent]
    if not answered:
        return "none"
    reply = REPLIES.get(command)
    text = _fields(*reply, answered) if reply else "empty"
    silent = [d for d in dialects if d not in answered]
    return f"{text}; none in {_versions(silent, DIALECTS)}" if silent else text


def _fields(message: type, layout: str, dialects: list[Dialect]) -> str:
    """The fields of a message, in order."""
    fields = []
    for field in layout.split():
        name, code = field.lstrip("?").split(":")
        having = [d for d in dialects if field[0] != "?" or name in d.optional]
        if not having:
            continue
        text = f"`{name}` {CODES[code]}"
        if len(having) < len(dialects):
            text += f" ({_versions(having, dialects)})"
        fields.append(text)
    if message in TAILS:
        fields.append(f"`{TAILS[message]}`, the rest of the payload")
    return ", ".join(fields) or "empty"


def _versions(having: list[Dialect], among: list[Dialect] | tuple[Dialect, ...]) -> str:
    """Some of the versions, as a range where they are one."""
    if len(having) == len(among):
        return "all"
    first, last = having[0].version, having[-1].version
    if having[-1] is among[-1] and len(having) > 1:
        return f"{first} and later"
    return str(first) if len(having) == 1 else f"{first} to {last}"


def versions() -> str:
    """Every version, and what it changed."""
    rows = [
        "| version | since | what changed | op tables |",
        "|---|---|---|---|",
    ]
    for before, dialect in zip((None, *DIALECTS), DIALECTS, strict=False):
        tables = dialect.op_tables
        span = tables[0] if len(tables) == 1 else f"{tables[0]} to {tables[-1]}"
        rows.append(
            f"| {dialect.version} | {dialect.since} | {_changes(before, dialect)} "
            f"| {len(tables)}: {span} |"
        )
    return "\n".join(rows)


def _changes(before: Dialect | None, dialect: Dialect) -> str:
    if before is None:
        return "the first version with `HELLO`"
    changes = [
        _list("adds {}", [c.name for c in sorted(dialect.commands - before.commands)]),
        _list(
            "removes {}", [c.name for c in sorted(before.commands - dialect.commands)]
        ),
        _list("adds the field {}", sorted(dialect.optional - before.optional)),
        _list("removes the field {}", sorted(before.optional - dialect.optional)),
        _list(
            "no reply to {}",
            [c.name for c in sorted(dialect.silent - before.silent)],
        ),
    ]
    return "; ".join(filter(None, changes)) or "op tables only"


def _list(text: str, names: list[str]) -> str:
    return text.format(", ".join(f"`{name}`" for name in names)) if names else ""


def rpc_tensor() -> str:
    """The fields of rpc_tensor."""
    rows = ["| offset | field | type |", "|---|---|---|"]
    assert RPC_TENSOR.fields is not None and RPC_TENSOR.names is not None
    for name in RPC_TENSOR.names:
        dtype, offset = RPC_TENSOR.fields[name][:2]
        base = DTYPES[dtype.base.str.lstrip("|")]
        count = f"[{dtype.shape[0]}]" if dtype.shape else ""
        rows.append(f"| {offset} | `{name}` | {base}{count} |")
    return "\n".join([*rows, "", f"Total: {TENSOR_BYTES} bytes."])


PAGES = {"ops.md": ops_page, "../ggrpc/building/methods.pyi": stub}
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "architecture.md": {"floors": floors},
    "protocol.md": {
        "messages": messages,
        "rpc_tensor": rpc_tensor,
        "versions": versions,
    },
}


def spliced(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """A page with its generated parts made anew.

    Raises:
        ValueError: the page lacks the markers of a part.
    """
    for name, make in parts.items():
        start, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"the page lacks the markers of the part {name}")
        head, rest = text.split(start, 1)
        text = f"{head}{start}\n{make()}\n\n{end}{rest.split(end, 1)[1]}"
    return text


def main() -> int:
    """Write or check every page; the exit code."""
    check = "--check" in sys.argv[1:]
    folder = Path(__file__).parent
    texts = {name: page() for name, page in PAGES.items()}
    for name, parts in PARTS.items():
        texts[name] = spliced((folder / name).read_text(), parts)
    stale = False
    for name, text in texts.items():
        path = folder / name
        if check and (not path.exists() or path.read_text() != text):
            print(f"{name} is out of date: run python docs/generate.py")
            stale = True
        elif not check:
            path.write_text(text)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
