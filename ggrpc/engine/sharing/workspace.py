"""One session with its tensors and a graph, all by name: what the shell works on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ggrpc.building import GraphBuilder
from ggrpc.closable import Closable
from ggrpc.engine.client.remote_device import RemoteServer
from ggrpc.engine.compute.computation import Computation
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.engine.compute.random_data import normal_bytes
from ggrpc.engine.files.arrays import load, save
from ggrpc.engine.inspection.graphs import graphs_in
from ggrpc.engine.sharing.session_sharing import SharingServer, row_of
from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import pack
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.tensor import Tensor

NAME = re.compile(r"[A-Za-z_][\w.-]*")
SEED = 0

# The builder's methods that add nodes.
OPS = frozenset(
    name
    for name in (m.name.lower() for e in (Op, UnaryOp, GluOp) for m in e)
    if callable(getattr(GraphBuilder, name, None))
) | {"cast"}


class Output(NamedTuple):
    """A result of a graph."""

    tensor: Tensor
    values: Array

    def listed(self) -> Any:
        """The values in lists, None for infinity and NaN, which JSON lacks."""
        values = self.values.astype(object)
        values[~np.isfinite(self.values)] = None
        return values.tolist()


class Workspace(Closable):
    """What somebody works with in one session.

    Args:
        server: the session.

    Attributes:
        server: the session.
        number: the device that new tensors lie on.
        stored: tensors of data.
        nodes: tensors of the graph that is being built.
        outputs: what the graph gave when it was last computed.
    """

    def __init__(self, server: RemoteServer) -> None:
        self.server = server
        self.number = 0
        self.stored: dict[str, DeviceTensor] = {}
        self.nodes: dict[str, Tensor] = {}
        self.outputs: dict[str, Output] = {}
        self._g = GraphBuilder()
        self._leaves: dict[str, Tensor] = {}
        self._computation: Computation | None = None
        self._holder: SharingServer | None = None

    def use(self, number: int) -> None:
        """Have new tensors lie on a device.

        Raises:
            RefusedError: there is none such.
        """
        self.server.device(number)
        self.number = number

    def alloc(self, name: str, type: str, ne: Sequence[int]) -> None:
        """Take memory for a tensor, all zeros."""
        self._put(name, DeviceTensor(self.server.device(self.number), type, *ne))

    def set(self, name: str, values: object, type: str | None = None) -> None:
        """Write a tensor; make it where there is none.

        Args:
            name: which.
            values: nested lists, one number for all elements, or a file's path.
            type: of a new tensor; None for that of the file's values, or F32.
        """
        data = load(values) if isinstance(values, Path) else _array(values)
        if isinstance(data, bytes):
            self._stored(name).set_bytes(data)
        elif name in self.stored and type is None:
            tensor = self.stored[name]
            tensor.set(data if data.ndim else np.broadcast_to(data, tensor.ne[::-1]))
        else:
            device = self.server.device(self.number)
            plain = None if isinstance(values, Path) else "F32"
            self._put(name, DeviceTensor.of(device, data, type or plain))

    def randomize(self, name: str) -> None:
        """Fill a tensor with random values around 0, the same every time."""
        stored = self._stored(name)
        stored.set_bytes(normal_bytes(stored.tensor, np.random.default_rng(SEED)))

    def get(self, name: str) -> Output:
        """A tensor of data, or what the graph gave for a node."""
        if name in self.outputs:
            return self.outputs[name]
        tensor = self._stored(name)
        return Output(tensor.tensor, tensor.numpy())

    def save(self, name: str, path: Path, force: bool) -> None:
        """Write a tensor to a file, as `files/arrays.py` says."""
        if name in self.outputs:
            tensor, values = self.outputs[name]
            save(path, tensor, [pack(values, tensor.type)], force)
        else:
            stored = self._stored(name)
            save(path, stored.tensor, stored.pieces(), force)

    def listing(self) -> list[dict[str, Any]]:
        """A row for each tensor that `get` and `save` know."""
        # Copies, for a holder asks from another thread.
        stored, outputs = dict(self.stored), dict(self.outputs)
        named = {name: tensor.tensor for name, tensor in stored.items()}
        named.update({name: output.tensor for name, output in outputs.items()})
        return [row_of(name, tensor) for name, tensor in named.items()]

    def clear(self, name: str, value: int) -> None:
        """Set every byte of a tensor."""
        buffer = self._stored(name).buffer
        buffer.fill(0, buffer.size, value)

    def free(self, name: str) -> None:
        """Give a tensor back; a graph that uses it is gone, too."""
        tensor = self._stored(name)
        if name in self._leaves:
            self.new_graph()
        tensor.free()
        del self.stored[name]

    def node(
        self,
        name: str,
        op: str,
        arguments: Sequence[str | float | None],
        options: Mapping[str, Any],
    ) -> None:
        """Add a node to the graph.

        Args:
            name: what to call it.
            op: a method of the builder.
            arguments: names of tensors, numbers, None for sources that are absent.
            options: the op's parameters.

        Raises:
            ConfigError: there is no such op or tensor, or an argument is missing.
            GraphError: the op does not take this.
        """
        if op not in OPS:
            raise ConfigError(f"there is no op '{op}': 'help ops' lists them")
        if name in self.stored or name in self.nodes or not NAME.fullmatch(name):
            raise ConfigError(f"'{name}' cannot be a new node's name")
        if "name" in options:
            raise ConfigError("a node's name stands before its op")
        given = [self._tensor(a) if isinstance(a, str) else a for a in arguments]
        try:
            tensor = getattr(self._g, op)(*given, name=name, **options)
        except TypeError as error:
            raise ConfigError(f"{op}: {error}") from None
        self.nodes[name] = tensor
        self._forget()

    def load(self, path: Path, number: int) -> None:
        """Take a graph of a recording, in the place of the one there is.

        The data that it reads become tensors, all zeros where there is none of that
        name, type and shape yet.

        Args:
            path: as `graphs_in` takes it.
            number: of the graph, from 1 on.

        Raises:
            RecordingError: the file cannot be read.
            ConfigError: it has no such graph.
        """
        with graphs_in(path) as graphs:
            if not 1 <= number <= len(graphs):
                raise ConfigError(f"{path} has {len(graphs)} graphs, no {number}")
            g = GraphBuilder.of(graphs[number - 1].read())
        self.new_graph()
        self._g = g
        for tensor in g.tensors:
            name = tensor.name or str(tensor.id)
            if name in self.nodes or name in self._leaves:
                name += f".{tensor.id}"  # the names of a client need not differ
            if tensor.op:
                self.nodes[name] = tensor
            elif not tensor.view_src:
                self._leaves[name] = tensor
                self._provide(name, tensor)

    def _provide(self, name: str, tensor: Tensor) -> None:
        """Have memory for a graph's data."""
        there = self.stored.get(name)
        if there and (there.type, there.ne) == (tensor.type, tensor.ne):
            return
        if there:
            there.free()
        device = self.server.device(self.number)
        self.stored[name] = DeviceTensor(device, tensor.type, *tensor.ne)

    def new_graph(self) -> None:
        """Begin a new graph."""
        self._forget()
        self._g = GraphBuilder()
        self._leaves.clear()
        self.nodes.clear()

    def compute(self, names: Sequence[str]) -> None:
        """Compute the graph.

        Args:
            names: the nodes to keep the results of; none for those nobody reads.
        """
        if not self.nodes:
            raise ConfigError("there is no graph yet: 'node' adds to one")
        for name in names:
            if name not in self.nodes:
                raise ConfigError(f"the graph has no node '{name}'")
        self._forget()
        data = {leaf: self.stored[name] for name, leaf in self._leaves.items()}
        wanted = [self.nodes[name] for name in names] or None
        self._computation = Computation(
            self._g, data, outputs=wanted, devices=[self.server.device(self.number)]
        )
        self.recompute()

    def recompute(self) -> None:
        """Compute the same graph again, by GRAPH_RECOMPUTE where the server has it."""
        if self._computation is None:
            raise ConfigError("nothing was computed yet: 'compute' does")
        names = {tensor.id: name for name, tensor in self.nodes.items()}
        values = self._computation.run()
        self.outputs = {names[t.id]: Output(t, array) for t, array in values.items()}

    def hold(self) -> None:
        """Let other processes save what there is, until `close`."""
        if self._holder is None:
            self._holder = SharingServer(self.server.endpoint, self)

    def close(self) -> None:
        """Give all memory back."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None
        self._forget()
        for tensor in self.stored.values():
            tensor.free()
        self.stored.clear()

    def _put(self, name: str, tensor: DeviceTensor) -> None:
        if name in self.nodes or not NAME.fullmatch(name):
            tensor.free()
            raise ConfigError(f"'{name}' cannot be a tensor's name")
        if name in self.stored:
            self.free(name)
        self.stored[name] = tensor

    def _stored(self, name: str) -> DeviceTensor:
        if name not in self.stored:
            raise ConfigError(f"there is no tensor '{name}': 'ls' lists them")
        return self.stored[name]

    def _tensor(self, name: str) -> Tensor:
        """A tensor of the graph: a node, or data that it is to read."""
        if name in self.nodes:
            return self.nodes[name]
        if name not in self._leaves:
            stored = self._stored(name)
            self._leaves[name] = self._g.tensor(stored.type, *stored.ne, name=name)
        return self._leaves[name]

    def _forget(self) -> None:
        """What was computed does not fit the graph, or its data, any more."""
        if self._computation is not None:
            self._computation.close()
            self._computation = None
        self.outputs = {}


def _array(values: object) -> Array:
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ConfigError("these are no numbers in rows of the same length")
    return array
