"""What a replay says of itself as it goes."""

from __future__ import annotations

from dataclasses import dataclass

from ggrpc.engine.recording.comparison import Difference
from ggrpc.tensor import Tensor


@dataclass(slots=True)
class Computed:
    """A graph that was run.

    Attributes:
        number: counted from 1 over the whole recording.
        device: the number that the client gave the device.
        nodes: how many it has.
        recorded: seconds until the recorded server answered it or, where the version
            has no such answer, the next question; None as long as that is unknown.
        seconds: what each run took here.
    """

    number: int
    device: int
    nodes: int
    recorded: float | None
    seconds: list[float]


@dataclass(frozen=True)
class Compared:
    """A tensor that the client read.

    Attributes:
        graph: the number of the last graph before.
        tensor: which.
        offset: the first byte that was read.
        size: how many bytes.
        difference: how what comes out here differs from what was recorded.
    """

    graph: int
    tensor: Tensor
    offset: int
    size: int
    difference: Difference


@dataclass
class Filled:
    """How the weights came about, by the number of tensors.

    Attributes:
        recorded: out of the recording.
        model: out of a GGUF.
        noise: made up.
    """

    recorded: int = 0
    model: int = 0
    noise: int = 0


@dataclass(frozen=True)
class Dropped:
    """The end of a connection that the recorded server closed.

    Attributes:
        graph: the number of the last graph before.
        command: what the client asked for last.
        answered: whether that had its answer, as far as it has one.
    """

    graph: int
    command: str
    answered: bool


@dataclass
class Worst:
    """All comparisons of the tensors of one name.

    Attributes:
        count: how many.
        compared: the one with the largest error.
    """

    count: int
    compared: Compared


class Tally:
    """What a replay said, without what nobody will ask for.

    Attributes:
        graphs: what was run.
        tensors: what was compared, by name.
    """

    def __init__(self) -> None:
        self.graphs: list[Computed] = []
        self.tensors: dict[str, Worst] = {}

    def add(self, result: Computed | Compared) -> None:
        """Take one result more."""
        if isinstance(result, Computed):
            self.graphs.append(result)
            return
        worst = self.tensors.setdefault(result.tensor.name, Worst(0, result))
        worst.count += 1
        if result.difference.nmse > worst.compared.difference.nmse:
            worst.compared = result

    @property
    def compared(self) -> int:
        """How many results were compared."""
        return sum(worst.count for worst in self.tensors.values())
