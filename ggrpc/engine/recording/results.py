"""The results of a replay: graphs, compared tensors, dropped connections, totals."""

from __future__ import annotations

from dataclasses import dataclass

from ggrpc.engine.recording.comparison import Difference
from ggrpc.tensor import Tensor


@dataclass(slots=True)
class Computed:
    """A graph that the replay computed.

    Attributes:
        number: the position of the graph in the recording, from 1.
        device: the number of the device in the recording.
        nodes: the number of nodes.
        recorded: seconds from the request to its recorded reply or, if the version has
            no such reply, to the next reply on the connection; None while unknown.
        seconds: the time of each run on the target, in seconds.
    """

    number: int
    device: int
    nodes: int
    recorded: float | None
    seconds: list[float]


@dataclass(frozen=True)
class Compared:
    """A tensor that the client read, compared with the recorded bytes.

    Attributes:
        graph: the number of the last graph before the read.
        tensor: the tensor.
        offset: the offset of the first byte that was read in the tensor.
        size: the number of bytes.
        difference: the difference between the target's result and the recorded one.
    """

    graph: int
    tensor: Tensor
    offset: int
    size: int
    difference: Difference


@dataclass
class WeightSources:
    """The number of tensors from each source of weights.

    Attributes:
        recorded: tensors from the recording.
        model: tensors from a GGUF file.
        random: tensors with random values.
    """

    recorded: int = 0
    model: int = 0
    random: int = 0


@dataclass(frozen=True)
class Dropped:
    """A connection that the recorded server closed.

    Attributes:
        graph: the number of the last graph before that.
        command: the last command of the client.
        answered: False if the recording lacks the reply to this command.
    """

    graph: int
    command: str
    answered: bool


@dataclass
class Worst:
    """All comparisons of the tensors with one name.

    Attributes:
        count: the number of comparisons.
        compared: the comparison with the largest error.
    """

    count: int
    compared: Compared


class Tally:
    """The graphs and the worst comparisons of a replay.

    Attributes:
        graphs: the graphs, in order.
        tensors: the comparisons by tensor name.
    """

    def __init__(self) -> None:
        self.graphs: list[Computed] = []
        self.tensors: dict[str, Worst] = {}

    def add(self, result: Computed | Compared) -> None:
        """Add a result."""
        if isinstance(result, Computed):
            self.graphs.append(result)
            return
        worst = self.tensors.setdefault(result.tensor.name, Worst(0, result))
        worst.count += 1
        if result.difference.nmse > worst.compared.difference.nmse:
            worst.compared = result

    @property
    def compared(self) -> int:
        """The number of comparisons."""
        return sum(worst.count for worst in self.tensors.values())
