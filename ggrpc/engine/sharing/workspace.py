"""The state of `ggrpc shell`: a session, its tensors by name, and a graph."""

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
from ggrpc.engine.files.single_tensor import load, save
from ggrpc.engine.inspection.graphs import graphs_in
from ggrpc.engine.sharing.session_sharing import SharingServer, tensor_row
from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import pack
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.tensor import Tensor
from ggrpc.untrusted import printable

NAME = re.compile(r"[A-Za-z_][\w.-]*")
SEED = 0

# The methods of the builder that add nodes.
OPS = frozenset(
    name
    for name in (m.name.lower() for e in (Op, UnaryOp, GluOp) for m in e)
    if callable(getattr(GraphBuilder, name, None))
) | {"cast"}


class Output(NamedTuple):
    """A tensor and its values."""

    tensor: Tensor
    values: Array

    def to_json(self) -> Any:
        """The values as nested lists; None for infinity and NaN, which JSON lacks."""
        values = self.values.astype(object)
        values[~np.isfinite(self.values)] = None
        return values.tolist()


class Workspace(Closable):
    """The tensors and the graph of one session; a context manager that frees them.

    Args:
        server: the session.

    Attributes:
        server: the session.
        device_number: the number of the device for new tensors and for graphs.
        stored: the tensors on devices, by name.
        nodes: the nodes of the graph, by name.
        outputs: the results of the last computation, by the names of their nodes.
    """

    def __init__(self, server: RemoteServer) -> None:
        self.server = server
        self.device_number = 0
        self.stored: dict[str, DeviceTensor] = {}
        self.nodes: dict[str, Tensor] = {}
        self.outputs: dict[str, Output] = {}
        self._g = GraphBuilder()
        self._leaves: dict[str, Tensor] = {}
        self._computation: Computation | None = None
        self._sharing: SharingServer | None = None

    def use(self, number: int) -> None:
        """Select the device for new tensors and for graphs.

        Raises:
            RefusedError: there is no such device.
        """
        self.server.device(number)
        self.device_number = number

    def alloc(self, name: str, type: str, ne: Sequence[int]) -> None:
        """Allocate a tensor of zeros; it replaces a tensor of the same name.

        Raises:
            ConfigError: the name or the type is not valid.
            GraphError: a row is not a whole number of blocks.
            OutOfMemory: the device does not have enough free memory.
        """
        self._put(name, DeviceTensor(self.server.device(self.device_number), type, *ne))

    def set(self, name: str, values: object, type: str | None = None) -> None:
        """Write a tensor, or create it.

        Args:
            name: the name of the tensor.
            values: nested lists, one number for all elements, or the path of a file.
            type: the type of the new tensor. None writes an existing tensor; if there
                is none, the type is that of the file's dtype, or F32.

        Raises:
            ConfigError: the values are not numbers, or have another shape.
            FileError: the file cannot be read.
        """
        data = load(values) if isinstance(values, Path) else _array(values)
        if isinstance(data, bytes):
            self._stored(name).set_bytes(data)
        elif name in self.stored and type is None:
            tensor = self.stored[name]
            tensor.set(data if data.ndim else np.broadcast_to(data, tensor.ne[::-1]))
        else:
            device = self.server.device(self.device_number)
            default = None if isinstance(values, Path) else "F32"
            self._put(name, DeviceTensor.of(device, data, type or default))

    def randomize(self, name: str) -> None:
        """Fill a tensor with normally distributed values, the same every time."""
        stored = self._stored(name)
        stored.set_bytes(normal_bytes(stored.tensor, np.random.default_rng(SEED)))

    def get(self, name: str) -> Output:
        """The values of a result or a tensor.

        Raises:
            ConfigError: no result or tensor has this name.
        """
        if name in self.outputs:
            return self.outputs[name]
        tensor = self._stored(name)
        return Output(tensor.tensor, tensor.numpy())

    def save(self, name: str, path: Path, force: bool) -> None:
        """Write a result or a tensor to a file; see `engine.files.single_tensor.save`.

        Raises:
            ConfigError: no result or tensor has this name.
            FileError: the file cannot be written.
        """
        if name in self.outputs:
            tensor, values = self.outputs[name]
            save(path, tensor, [pack(values, tensor.type)], force)
        else:
            stored = self._stored(name)
            save(path, stored.tensor, stored.pieces(), force)

    def listing(self) -> list[dict[str, Any]]:
        """A row for each tensor that `get` and `save` accept; see `tensor_row`."""
        # Copies: the sharing server's thread calls this while the shell changes them.
        stored, outputs = dict(self.stored), dict(self.outputs)
        named = {name: tensor.tensor for name, tensor in stored.items()}
        named.update({name: output.tensor for name, output in outputs.items()})
        return [tensor_row(name, tensor) for name, tensor in named.items()]

    def clear(self, name: str, value: int) -> None:
        """Set every byte of a tensor to a value (0 to 255)."""
        buffer = self._stored(name).buffer
        buffer.fill(0, buffer.size, value)

    def free(self, name: str) -> None:
        """Free a tensor, and discard the graph if it uses the tensor."""
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
            name: the name of the node.
            op: the name of a method of the builder.
            arguments: names of tensors, numbers, and None for an absent source.
            options: the op's parameters.

        Raises:
            ConfigError: there is no such op or tensor, or an argument is missing.
            GraphError: the node breaks a rule of the op.
        """
        if op not in OPS:
            raise ConfigError(f"there is no op '{op}': list them with 'help ops'")
        if name in self.stored or name in self.nodes or not NAME.fullmatch(name):
            raise ConfigError(f"'{name}' is taken, or not a valid name for a node")
        if "name" in options:
            raise ConfigError("write the name of the node before the op")
        given = [self._tensor(a) if isinstance(a, str) else a for a in arguments]
        try:
            tensor = getattr(self._g, op)(*given, name=name, **options)
        except TypeError as error:
            raise ConfigError(f"{op}: {error}") from None
        self.nodes[name] = tensor
        self._discard_results()

    def load(self, path: Path, number: int) -> None:
        """Replace the graph with one of a recording.

        A leaf uses the tensor with its name, type and shape if there is one. Otherwise
        it becomes a tensor of zeros.

        Args:
            path: the path of the recording; see `graphs_in`.
            number: the number of the graph, from 1 on.

        Raises:
            RecordingError: the file cannot be read.
            ConfigError: there is no such graph.
        """
        with graphs_in(path) as graphs:
            if not 1 <= number <= len(graphs):
                raise ConfigError(
                    f"{path} has no graph {number}: it has {len(graphs)} graphs"
                )
            g = GraphBuilder.of(graphs[number - 1].read())
        self.new_graph()
        self._g = g
        for tensor in g.tensors:
            name = printable(tensor.name) or str(tensor.id)
            if name in self.nodes or name in self._leaves:
                name += f".{tensor.id}"  # names in a graph need not be unique
            if tensor.op:
                self.nodes[name] = tensor
            elif not tensor.view_src:
                self._leaves[name] = tensor
                self._allocate_leaf(name, tensor)

    def _allocate_leaf(self, name: str, tensor: Tensor) -> None:
        old = self.stored.get(name)
        if old and (old.type, old.ne) == (tensor.type, tensor.ne):
            return
        if old:
            old.free()
        device = self.server.device(self.device_number)
        self.stored[name] = DeviceTensor(device, tensor.type, *tensor.ne)

    def new_graph(self) -> None:
        """Discard the graph and its results."""
        self._discard_results()
        self._g = GraphBuilder()
        self._leaves.clear()
        self.nodes.clear()

    def compute(self, names: Sequence[str]) -> None:
        """Compute the graph.

        Args:
            names: the nodes whose results are kept; if empty, the nodes that no other
                node reads.

        Raises:
            ConfigError: there is no graph, or no such node.
            GgrpcError: the computation failed.
        """
        if not self.nodes:
            raise ConfigError("there is no graph yet: add a node with 'node'")
        for name in names:
            if name not in self.nodes:
                raise ConfigError(f"the graph has no node '{name}'")
        self._discard_results()
        data = {leaf: self.stored[name] for name, leaf in self._leaves.items()}
        wanted = [self.nodes[name] for name in names] or None
        self._computation = Computation(
            self._g,
            data,
            outputs=wanted,
            devices=[self.server.device(self.device_number)],
        )
        self.recompute()

    def recompute(self) -> None:
        """Compute the same graph again, with GRAPH_RECOMPUTE if the server has it.

        Raises:
            ConfigError: `compute` was not called for this graph.
            GgrpcError: the computation failed.
        """
        if self._computation is None:
            raise ConfigError("nothing was computed yet: use 'compute' first")
        names = {tensor.id: name for name, tensor in self.nodes.items()}
        values = self._computation.run()
        self.outputs = {names[t.id]: Output(t, array) for t, array in values.items()}

    def hold(self) -> None:
        """Share the tensors and results with other processes until `close`."""
        if self._sharing is None:
            self._sharing = SharingServer(self.server.endpoint, self)

    def close(self) -> None:
        """Stop sharing, and free all tensors."""
        if self._sharing is not None:
            self._sharing.close()
            self._sharing = None
        self._discard_results()
        for tensor in self.stored.values():
            tensor.free()
        self.stored.clear()

    def _put(self, name: str, tensor: DeviceTensor) -> None:
        if name in self.nodes or not NAME.fullmatch(name):
            tensor.free()
            raise ConfigError(f"'{name}' is taken, or not a valid name for a tensor")
        if name in self.stored:
            self.free(name)
        self.stored[name] = tensor

    def _stored(self, name: str) -> DeviceTensor:
        if name not in self.stored:
            raise ConfigError(f"there is no tensor '{name}': list them with 'ls'")
        return self.stored[name]

    def _tensor(self, name: str) -> Tensor:
        """The node with a name, or else the leaf for the stored tensor of that name."""
        if name in self.nodes:
            return self.nodes[name]
        if name not in self._leaves:
            stored = self._stored(name)
            self._leaves[name] = self._g.tensor(stored.type, *stored.ne, name=name)
        return self._leaves[name]

    def _discard_results(self) -> None:
        """Discard the computation and its results, which are out of date."""
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
        raise ConfigError("the values must be numbers, in rows of equal length")
    return array
