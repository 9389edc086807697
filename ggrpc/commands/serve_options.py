"""The flags of `ggrpc serve`: names, types and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.logs import LogFormat, LogLevel
from ggrpc.commands.number_checks import finite

MIN_SECONDS = 0.1

Host = Annotated[
    str, typer.Option("-H", "--host", metavar="HOST", help="Address to listen on.")
]
Port = Annotated[
    int,
    typer.Option(
        *("-p", "--port"),
        metavar="PORT",
        min=0,
        max=65535,
        help="Port to listen on; 0 picks a free one.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        *("-d", "--device"),
        metavar="NAME,...",
        show_default="all GPUs, else the OpenCL device of the CPU, else cpu",
        help="Devices to serve, named as in 'ggrpc devices'.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        *("-t", "--threads"),
        metavar="N",
        min=1,
        show_default="all processors",
        help="Number of threads of the cpu device.",
    ),
]
Cache = Annotated[
    bool,
    typer.Option(
        *("-c", "--cache"),
        help="Cache large tensors on disk, in llama.cpp's cache folder.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="see 'ggrpc cache path'",
        help="Cache tensors in this folder; implies -c.",
    ),
]
CacheLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="a tenth of the disk",
        help="Maximum size of the cache, such as 100G; the least recently used entries "
        "are removed first.",
    ),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        show_default=False,
        help="A GGUF, one file of a split model, or a folder of models, whose tensors "
        "clients need not send. Can be repeated.",
    ),
]
WeightCache = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="a quarter of the memory",
        help="Memory for unpacked weights on the cpu device, such as 512M or 4G; 0 "
        "keeps none.",
    ),
]
ForgetClients = Annotated[
    bool,
    typer.Option(
        "--forget-clients",
        help="Forget which protocol versions clients used, and detect them again.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        help="Protocol version, such as 7.0.0, or a list with one for each kind of "
        "client, such as 2.0,5.0; auto detects the version of each client.",
    ),
]
OpTableDate = Annotated[
    str | None,
    typer.Option(
        "--op-table",
        metavar="DATE",
        show_default="the table that fits the client's graph",
        help="Use the op numbers of llama.cpp builds of this date, such as 2025-07-20.",
    ),
]
WarmUp = Annotated[
    bool,
    typer.Option(
        "--warm-up/--no-warm-up",
        help="Compile the kernels of common models in the background at start. OpenCL "
        "devices only.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Log a time profile when a client disconnects; this slows the server "
        "slightly.",
    ),
]
Level = Annotated[
    LogLevel | None,
    typer.Option(
        metavar="LEVEL",
        show_default="info",
        help="Least severe level to log: debug, info, warning or error.",
    ),
]
Format = Annotated[
    LogFormat,
    typer.Option(metavar="FORMAT", help="Format of a log line: text or json."),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="the memory of the device",
        help="Memory for all clients together, such as 16G.",
    ),
]
MaxClientMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="the memory of the device",
        help="Memory for each client.",
    ),
]
MaxClients = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Maximum number of connections; a new one replaces the connection that "
        "was idle longest and has no memory.",
    ),
]
MaxClientsPerAddress = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Maximum number of connections from one address."
    ),
]
MaxMessage = Annotated[
    str,
    typer.Option(
        metavar="SIZE", help="Maximum size of a request, without tensor data."
    ),
]
MaxNodes = Annotated[
    int, typer.Option(metavar="N", min=1, help="Maximum number of nodes of a graph.")
]
HelloTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=MIN_SECONDS,
        callback=finite,
        help="Maximum time from connecting to HELLO.",
    ),
]
MessageTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=MIN_SECONDS,
        callback=finite,
        help="How long a client may pause within a request or a reply.",
    ),
]
IdleTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=MIN_SECONDS,
        callback=finite,
        show_default="no limit",
        help="How long a client may pause between requests.",
    ),
]
Grace = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        callback=finite,
        help="How long a shutdown waits for running graphs and requests.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CIDR",
        show_default="all",
        help="Address or network that may connect. Can be repeated.",
    ),
]
TlsCert = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="no TLS",
        help="Use TLS with this certificate (PEM), for ggrpc clients and tunnels.",
    ),
]
TlsKey = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="in the file of the certificate",
        help="Private key of the certificate.",
    ),
]
TlsClientCa = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="all clients",
        help="Accept only clients with a certificate from one of these CAs (PEM).",
    ),
]
NoComm = Annotated[
    bool,
    typer.Option(
        "--no-comm",
        help="Never link with another server; llama.cpp's -sm tensor then adds the "
        "results of the servers itself, which is slower.",
    ),
]
CommPeers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CIDR",
        show_default="those of --allow",
        help="Address or network of servers to link with for -sm tensor. Can be "
        "repeated.",
    ),
]
CommTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=MIN_SECONDS,
        callback=finite,
        help="How long a linked server may take to send its part of a tensor.",
    ),
]
