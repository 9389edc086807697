"""`ggrpc record`: keep what a client and a server say to each other."""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.endpoints import one_endpoint
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.logs import LogFormat, logging_to
from ggrpc.commands.signals import at_signal
from ggrpc.commands.tunnel import Expose, Listen, Server, plain_endpoint

EXAMPLES = (
    "ggrpc record 50053 localhost:50052 -o graph.bin",
    "ggrpc record 50053 gpu1.lan -o graph.bin -n 100 --weights none",
)

log = logging.getLogger(__name__)


class Weights(str, Enum):
    """What is kept of them."""

    full = "full"
    hash = "hash"
    none = "none"


Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it.")
]
KeptWeights = Annotated[
    Weights,
    typer.Option(
        "--weights",
        metavar="HOW",
        help="Keep the weights that clients set in full, by their hash, or not at all: "
        "full, hash or none.",
    ),
]
Graphs = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--graphs",
        metavar="N",
        min=1,
        show_default=False,
        help="Stop recording after N graphs.",
    ),
]
For = Annotated[
    float | None,
    typer.Option(
        "--for",
        metavar="SECONDS",
        min=0,
        show_default=False,
        help="Stop recording after so long.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace a file that is there already.")
]


def record(
    context: typer.Context,
    listen: Listen,
    endpoint: Server,
    output: Output,
    weights: KeptWeights = Weights.full,
    graphs: Graphs = None,
    seconds: For = None,
    force: Force = False,
    expose: Expose = False,
) -> ExitCode:
    """Record what llama.cpp sends a server, and what it gets.

    LISTEN is a port of 127.0.0.1, or host:port. What connects there is taken to
    ENDPOINT, a server of any make and version: 'llama-cli --rpc 127.0.0.1:LISTEN' then
    computes as ever, and FILE gets each graph, with what it reads and gives back, for
    'ggrpc replay'. Start it before the client, which sends weights but once.

    Ends by Ctrl-C or SIGTERM; with -n or --for, when the last client has left after
    that. The file is good whenever it ends, and ends with the graph that made the
    server drop the connection.
    """
    from ggrpc.engine.recording import framing
    from ggrpc.engine.recording.recorder import Recorder, RecorderSettings

    settings = RecorderSettings(
        plain_endpoint(listen, expose),
        one_endpoint(endpoint),
        output,
        force,
        framing.WeightRecording(weights.value),
        graphs,
        seconds,
    )
    with logging_to(environment_of(context), None, LogFormat.text):
        recorder = Recorder(settings)
        for address in recorder.endpoints:
            log.info("listening on %s, for %s", address, settings.server)
        at_signal(recorder.stop)
        recorder.run()
    return ExitCode.OK
