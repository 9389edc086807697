"""The verbs of `ggrpc shell`, and the function that runs a line."""

from __future__ import annotations

import inspect
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ggrpc.building import GraphBuilder
from ggrpc.commands.listing import Column, Row
from ggrpc.engine.sharing.session_sharing import tensor_row
from ggrpc.engine.sharing.workspace import OPS, Workspace
from ggrpc.errors import ConfigError, FileError
from ggrpc.tensor import Tensor
from ggrpc.units import format_size

FORCE = "--force"


class Quit(Exception):
    """Raised by the verbs `quit` and `exit` to end the session."""


class Answer(NamedTuple):
    """The result of a line.

    Attributes:
        rows: the output for --json, and of the table if there is no text.
        columns: the columns of the table.
        text: the output without --json, instead of a table.
    """

    rows: Sequence[Row] = ()
    columns: Sequence[Column] = ()
    text: str | None = None


class Verb(NamedTuple):
    """A verb of the shell.

    Attributes:
        run: runs the verb with the workspace and its arguments.
        usage: the arguments, as shown by `help`.
        meaning: a short description.
    """

    run: Callable[[Workspace, list[str]], Answer | None]
    usage: str
    meaning: str


TENSOR_COLUMNS = (
    Column("name", "NAME"),
    Column("op", "OP"),
    Column("type", "TYPE"),
    Column("ne", "NE", lambda ne: "x".join(map(str, ne))),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("device", "DEVICE", right=True),
)
MEMORY_COLUMNS = (
    Column("device", "DEVICE", right=True),
    Column("memory_free_bytes", "FREE", format_size, right=True),
    Column("memory_total_bytes", "TOTAL", format_size, right=True),
)
RESULT_COLUMNS = (*TENSOR_COLUMNS[:4], Column("ms", "TIME", "{:.3f} ms".format))


def run_line(workspace: Workspace, line: str) -> Answer | None:
    """Run a line.

    Raises:
        Quit: the verb is `quit` or `exit`.
        ConfigError: the line is invalid.
        GgrpcError: the verb failed.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise ConfigError(f"cannot parse the line: {error}".lower()) from None
    if not words:
        return None
    verb = VERBS.get(words[0])
    if verb is None:
        raise ConfigError(f"there is no verb '{words[0]}': list them with 'help'")
    arguments = verb.usage.split()
    required = sum(word[0] != "[" for word in arguments)
    surplus = len(words) - 1 > len(arguments) and "..." not in verb.usage
    if len(words) <= required or surplus:
        raise ConfigError(f"usage: {words[0]} {verb.usage}")
    return verb.run(workspace, words[1:])


def _mem(workspace: Workspace, words: list[str]) -> Answer:
    rows = []
    for number, device in enumerate(workspace.server.devices):
        free, total = device.memory()
        rows.append(
            {
                "device": number,
                "memory_free_bytes": free,
                "memory_total_bytes": total,
            }
        )
    return Answer(rows, MEMORY_COLUMNS)


def _ls(workspace: Workspace, words: list[str]) -> Answer:
    devices = {device: n for n, device in enumerate(workspace.server.devices)}
    rows = [
        {**_row(name, stored.tensor), "device": devices[stored.device]}  # type: ignore[index]
        for name, stored in workspace.stored.items()
    ]
    nodes = [_row(name, tensor) for name, tensor in workspace.nodes.items()]
    return Answer([*rows, *nodes], TENSOR_COLUMNS)


def _device(workspace: Workspace, words: list[str]) -> None:
    workspace.use(_number(words[0]))


def _alloc(workspace: Workspace, words: list[str]) -> None:
    name, type, *ne = words
    workspace.alloc(name, type, [_number(n) for n in ne])


def _set(workspace: Workspace, words: list[str]) -> None:
    name, values, *type = words
    if values == "random":
        workspace.randomize(name)
        return
    workspace.set(name, _numbers(values), *type)


def _get(workspace: Workspace, words: list[str]) -> Answer | None:
    force = FORCE in words
    name, *path = [word for word in words if word != FORCE]
    if path:
        workspace.save(name, Path(path[0]), force)
        return None
    output = workspace.get(name)
    row = _row(name, output.tensor) | {"values": output.to_json()}
    return Answer([row], text=str(output.values))


def _clear(workspace: Workspace, words: list[str]) -> None:
    name, *value = words
    workspace.clear(name, _number(value[0]) if value else 0)


def _free(workspace: Workspace, words: list[str]) -> None:
    for name in words:
        workspace.free(name)


def _node(workspace: Workspace, words: list[str]) -> None:
    name, op, *rest = words
    pairs = [word.split("=", 1) for word in rest if "=" in word]
    options = {key: _value(text) for key, text in pairs}
    workspace.node(name, op, [_argument(w) for w in rest if "=" not in w], options)


def _load(workspace: Workspace, words: list[str]) -> None:
    path, *number = words
    workspace.load(Path(path), _number(number[0]) if number else 1)


def _new(workspace: Workspace, words: list[str]) -> None:
    workspace.new_graph()


def _compute(workspace: Workspace, words: list[str]) -> Answer:
    return _timed(workspace, lambda: workspace.compute(words))


def _recompute(workspace: Workspace, words: list[str]) -> Answer:
    return _timed(workspace, workspace.recompute)


def _run(workspace: Workspace, words: list[str]) -> Answer:
    """Run the lines of a file, and collect their rows."""
    try:
        lines = Path(words[0]).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise FileError(f"cannot read {words[0]}: {reason}") from None
    rows: list[Row] = []
    for at, line in enumerate(lines, 1):
        try:
            answer = run_line(workspace, line)
        except ConfigError as error:
            raise ConfigError(f"{words[0]}, line {at}: {error}") from None
        rows += answer.rows if answer else ()
    return Answer(rows, TENSOR_COLUMNS)


def _hold(workspace: Workspace, words: list[str]) -> None:
    workspace.hold()


def _wait(workspace: Workspace, words: list[str]) -> None:
    seconds = float(_number(words[0])) if words else None
    threading.Event().wait(seconds)


def _help(workspace: Workspace, words: list[str]) -> Answer:
    if not words:
        pairs = [(f"{name} {verb.usage}", verb.meaning) for name, verb in VERBS.items()]
        return _page(pairs)
    topic = words[0]
    if topic in VERBS:
        verb = VERBS[topic]
        return _page([(f"{topic} {verb.usage}", verb.meaning)])
    return _help_of_op(topic)


def _help_of_op(topic: str) -> Answer:
    if topic == "ops":
        return Answer([{"op": op} for op in sorted(OPS)], text=" ".join(sorted(OPS)))
    if topic not in OPS:
        raise ConfigError(
            f"there is no verb or op '{topic}': type 'help' or 'help ops'"
        )
    method = getattr(GraphBuilder, topic)
    names = list(inspect.signature(method).parameters)[1:]
    return Answer(
        [{"op": topic, "arguments": names}],
        text=f"node NAME {topic} {' '.join(names)}\n\n{inspect.getdoc(method)}",
    )


def _quit(workspace: Workspace, words: list[str]) -> None:
    raise Quit


VERBS = {
    "mem": Verb(_mem, "", "show the memory of the devices"),
    "device": Verb(_device, "NUMBER", "select the device for new tensors and graphs"),
    "ls": Verb(_ls, "", "list tensors, and nodes of the graph"),
    "alloc": Verb(_alloc, "NAME TYPE NE [NE...]", "allocate a tensor"),
    "set": Verb(
        _set,
        "NAME VALUES|FILE|random [TYPE]",
        "write a tensor: '[[1, 2], [3, 4]]', one number, a .npy file, or raw bytes",
    ),
    "get": Verb(
        _get, "NAME [FILE] [--force]", "show values, or save them as .npy or raw bytes"
    ),
    "clear": Verb(_clear, "NAME [BYTE]", "set every byte of a tensor"),
    "free": Verb(_free, "NAME [NAME...]", "free tensors"),
    "node": Verb(
        _node,
        "NAME OP [SOURCE...] [KEY=VALUE...]",
        "add a node; - stands for an absent source",
    ),
    "load": Verb(
        _load, "FILE [NUMBER]", "load a graph of a recording; its inputs are zeros"
    ),
    "new": Verb(_new, "", "start a new graph"),
    "compute": Verb(
        _compute, "[NODE...]", "compute the graph; keep the results of these nodes"
    ),
    "recompute": Verb(_recompute, "", "compute the graph again"),
    "run": Verb(_run, "FILE", "run the lines of a file"),
    "hold": Verb(_hold, "", "share the tensors of this session with 'ggrpc pull'"),
    "wait": Verb(_wait, "[SECONDS]", "wait for a time, or until Ctrl-C"),
    "help": Verb(_help, "[VERB|OP|ops]", "list the verbs, or explain a verb or op"),
    "quit": Verb(_quit, "", "end the session"),
    "exit": Verb(_quit, "", "end the session"),
}


def _timed(workspace: Workspace, compute: Callable[[], None]) -> Answer:
    start = time.perf_counter()
    compute()
    ms = round((time.perf_counter() - start) * 1e3, 3)
    return Answer(
        [
            _row(name, output.tensor) | {"ms": ms}
            for name, output in workspace.outputs.items()
        ],
        RESULT_COLUMNS,
    )


def _row(name: str, tensor: Tensor) -> dict[str, Any]:
    return tensor_row(name, tensor) | {"op": tensor.op.name if tensor.op else None}


def _page(pairs: Sequence[tuple[str, str]]) -> Answer:
    width = max(len(usage) for usage, _ in pairs)
    lines = [f"{usage.ljust(width)}  {meaning}".rstrip() for usage, meaning in pairs]
    rows = [{"usage": usage.strip(), "meaning": meaning} for usage, meaning in pairs]
    return Answer(rows, text="\n".join(lines))


def _numbers(text: str) -> object:
    """A number or nested lists of numbers; any other text is the path of a file."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return Path(text)
    return values if isinstance(values, (int, float, list)) else Path(text)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ConfigError(f"'{text}' is not a number") from None


def _argument(word: str) -> str | float | None:
    """The name of a source, a number, or None for `-`, an absent source."""
    if word == "-":
        return None
    value = _value(word)
    return value if isinstance(value, (int, float)) else word


def _value(text: str) -> Any:
    """A number, a list of values separated by commas, or a word."""
    if "," in text:
        return list(_values(text))
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return text


def _values(text: str) -> Iterator[Any]:
    return (_value(part) for part in text.split(",") if part)
