"""`ggrpc serve`: be a worker for llama.cpp, until SIGINT or SIGTERM."""

from __future__ import annotations

import logging
import signal
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ggrpc import __version__
from ggrpc.commands.environment import environment_of
from ggrpc.commands.logs import LogFormat, LogLevel, logging_to
from ggrpc.endpoint import DEFAULT_PORT, Endpoint
from ggrpc.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ggrpc.devices.device import Device
    from ggrpc.engine.server import Server, ServerSettings

EXAMPLES = ("ggrpc serve", "ggrpc serve --host 0.0.0.0 --port 50053 --threads 8")

STOPPING = signal.SIGINT, signal.SIGTERM

log = logging.getLogger(__name__)


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
    str,
    typer.Option(
        *("-d", "--device"),
        metavar="NAME,...",
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
    bool, typer.Option("-c", "--cache", help="Reserved: no cache is kept yet.")
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


def serve(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    device: Devices = "cpu",
    threads: Threads = None,
    cache: Cache = False,
    weight_cache: WeightCache = None,
    protocol: Protocol = "auto",
    op_table: OpTableDate = None,
    log_level: Level = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Serve this machine's devices to llama.cpp.

    The log goes to stderr. Ctrl-C and SIGTERM end the sessions, then the server; a
    second one ends it at once.

    The protocol has no password and no encryption: listen on trusted networks only.
    """
    with logging_to(environment_of(context), log_level, log_format):
        size = None if weight_cache is None else parse_size(weight_cache)
        endpoint = Endpoint.parse(str(Endpoint(host, port)))  # the host is checked
        devices = _devices(device, threads, size)
        settings = _settings(endpoint, devices, protocol, op_table)
        if cache:
            log.warning("--cache is reserved: this version keeps no cache")
        _run(settings)


def _devices(
    names: str, threads: int | None, weight_cache: int | None
) -> Sequence[Device]:
    from ggrpc.devices.catalogue import Choices, open_devices

    return open_devices(names, Choices(threads, weight_cache))


def _settings(
    endpoint: Endpoint, devices: Sequence[Device], protocol: str, op_table: str | None
) -> ServerSettings:
    # Here and not above: no other command's help must wait for numpy.
    from ggrpc.engine.offers import FixedOffers, LearnedOffers, Offers, state_file
    from ggrpc.engine.server import ServerSettings
    from ggrpc.engine.wire.dialects import dialects_named
    from ggrpc.engine.wire.op_tables import op_table_named

    offers: Offers = LearnedOffers(state_file())
    if protocol != "auto":
        offers = FixedOffers(dialects_named(protocol))
    table = op_table_named(op_table) if op_table else None
    return ServerSettings(endpoint, devices, offers, table)


def _run(settings: ServerSettings) -> None:
    from ggrpc.engine.server import Server

    with Server(settings) as server:

        def stop(number: int, frame: FrameType | None) -> None:
            for one in STOPPING:
                signal.signal(one, signal.SIG_DFL)  # the next one ends the process
            server.stop()

        for number in STOPPING:
            signal.signal(number, stop)
        _announce(settings, server)
        server.run()
    log.info("stopped")


def _announce(settings: ServerSettings, server: Server) -> None:
    log.info("ggrpc %s speaks protocol %s", __version__, settings.offers)
    for number, device in enumerate(settings.devices):
        free, total = map(format_size, device.memory())
        log.info(
            "device %d is %s: %s, %s of %s free",
            *(number, device.name, device.description, free, total),
        )
    for endpoint in server.endpoints:
        log.info("listening on %s", endpoint)
    if not all(ip_address(endpoint.host).is_loopback for endpoint in server.endpoints):
        log.warning(
            "other machines can connect: the protocol has no password and no "
            "encryption, so the network must be a trusted one"
        )
