"""`ggrpc record`: records the traffic between a client and a server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.endpoints import one_endpoint
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.logs import LogFormat, logging_to
from ggrpc.commands.number_checks import finite
from ggrpc.commands.signals import at_signal
from ggrpc.commands.tls_options import tls_context
from ggrpc.commands.tunnel import Expose, Listen, Server, plain_endpoint
from ggrpc.engine.recording.recorder import Recorder, RecorderSettings
from ggrpc.engine.recording.weight_recording import WeightRecording

EXAMPLES = (
    "ggrpc record 50053 localhost:50052 -o graph.bin",
    "ggrpc record 50053 gpu1.lan -o graph.bin -n 100 --weights none",
)

log = logging.getLogger(__name__)


Output = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FILE", help="Recording file to write."),
]
Weights = Annotated[
    WeightRecording,
    typer.Option(
        "--weights",
        metavar="HOW",
        help="How to record the weights that clients set: full, hash (as hashes only) "
        "or none.",
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
        callback=finite,
        show_default=False,
        help="Stop recording after this time.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]


def record(
    context: typer.Context,
    listen: Listen,
    endpoint: Server,
    output: Output,
    weights: Weights = WeightRecording.FULL,
    graphs: Graphs = None,
    seconds: For = None,
    force: Force = False,
    expose: Expose = False,
) -> ExitCode:
    """Record the traffic between llama.cpp and a server.

    LISTEN is a port of 127.0.0.1, or host:port. Connections to it are forwarded to
    ENDPOINT, a server of any version that ggrpc supports. 'llama-cli --rpc
    127.0.0.1:LISTEN' computes as usual, while FILE receives each graph with its inputs
    and results, for 'ggrpc replay'. Start the recorder before the client, because the
    client sends weights only once.

    Ctrl-C or SIGTERM stops the recorder. After the limit of -n or --for, it stops when
    the last client has disconnected. With -n alone, if the clients leave too early and
    none connects for 30 seconds, it stops with exit code 4. The file is valid however
    the recording ends. If the server drops a connection, the recording includes the
    graph that caused it.
    """
    environment = environment_of(context)
    settings = RecorderSettings(
        plain_endpoint(listen, expose),
        one_endpoint(endpoint),
        output,
        force,
        weights,
        graphs,
        seconds,
        tls_context(environment),
    )
    with logging_to(environment, None, LogFormat.text):
        recorder = Recorder(settings)
        at_signal(recorder.stop)
        for address in recorder.endpoints:
            log.info("listening on %s, for %s", address, settings.server)
        recorder.run()
    return ExitCode.OK
