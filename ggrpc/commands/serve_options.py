"""The flags of `ggrpc serve`: their names, their help, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.logs import LogFormat, LogLevel

SHORTEST = 0.1  # seconds

Host = Annotated[
    str, typer.Option("-H", "--host", metavar="HOST", help="The address to listen on.")
]
Port = Annotated[
    int,
    typer.Option(
        *("-p", "--port"),
        metavar="PORT",
        min=0,
        max=65535,
        help="The port; 0 takes a free one.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        *("-d", "--device"),
        metavar="NAME,...",
        show_default="all GPUs, else the processor by OpenCL, else cpu",
        help="What to compute on, as 'ggrpc devices' names it.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        *("-t", "--threads"),
        metavar="N",
        min=1,
        show_default="all processors",
        help="Threads of the cpu.",
    ),
]
Cache = Annotated[
    bool,
    typer.Option(
        *("-c", "--cache"),
        help="Keep large tensors on disk, in llama.cpp's folder for them.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="as 'ggrpc cache path' says",
        help="Keep them in this folder: the same as -c, elsewhere.",
    ),
]
CacheLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="a tenth of the disk",
        help="What they may take: 100G; the least recently used go first.",
    ),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        show_default=False,
        help="A GGUF, one file of a split one, or a folder of them: what is in there "
        "need not be sent. May be given several times.",
    ),
]
WeightCache = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="a quarter of the memory",
        help="Memory for weights that the cpu keeps unpacked: 512M, 4G, 0.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        help="What to speak: 7.0.0, or one of each kind as in 2.0,5.0; auto learns "
        "it from each client.",
    ),
]
OpTableDate = Annotated[
    str | None,
    typer.Option(
        "--op-table",
        metavar="DATE",
        show_default="what a client's graph fits",
        help="Number ops as llama.cpp did on a day, such as 2025-07-20.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Log where the time went when a client leaves; that costs some.",
    ),
]
Level = Annotated[
    LogLevel | None,
    typer.Option(
        metavar="LEVEL",
        show_default="info",
        help="What is worth a line: debug, info, warning or error.",
    ),
]
Format = Annotated[
    LogFormat, typer.Option(metavar="FORMAT", help="How a line looks: text or json.")
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="what a device has",
        help="Memory for all clients together: 16G.",
    ),
]
MaxClientMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="what a device has",
        help="Memory for each client.",
    ),
]
MaxClients = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Connections at once; one that holds no memory makes way for a new one.",
    ),
]
MaxClientsPerAddress = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Connections at once from one address."),
]
MaxMessage = Annotated[
    str,
    typer.Option(
        metavar="SIZE", help="The longest request, but for the data of a tensor."
    ),
]
MaxNodes = Annotated[
    int, typer.Option(metavar="N", min=1, help="Nodes of the largest graph.")
]
HelloTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=SHORTEST, help="Time to greet, from connecting on."
    ),
]
MessageTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=SHORTEST,
        help="How long a client may stall within a request or a reply.",
    ),
]
IdleTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=SHORTEST,
        show_default="no limit",
        help="How long a client may ask nothing.",
    ),
]
Grace = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Time that a stop leaves for what has begun, such as a graph.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CIDR",
        show_default="everybody",
        help="Who may connect: an address or network, as often as there are some.",
    ),
]
TlsCert = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="no TLS",
        help="Speak TLS, with this certificate (PEM); for ggrpc clients and tunnels.",
    ),
]
TlsKey = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="in the certificate's file",
        help="The certificate's key.",
    ),
]
TlsClientCa = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="everybody",
        help="Let in only clients with a certificate of one of these CAs.",
    ),
]
