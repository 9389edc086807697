"""`ggrpc serve`: a worker for llama.cpp that runs until SIGINT or SIGTERM."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import typer

from ggrpc import __version__
from ggrpc.commands import serve_options as flags
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.logs import LogFormat, logging_to
from ggrpc.commands.signals import at_signal
from ggrpc.endpoint import DEFAULT_PORT, Endpoint
from ggrpc.errors import ConfigError
from ggrpc.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from ssl import SSLContext as Context

    from ggrpc.devices.device import Device
    from ggrpc.engine.cache.store import TensorCache
    from ggrpc.engine.server.server import Server, ServerSettings

EXAMPLES = ("ggrpc serve", "ggrpc serve --host 0.0.0.0 --port 50053 --threads 8")

log = logging.getLogger(__name__)


def serve(
    context: typer.Context,
    host: flags.Host = "127.0.0.1",
    port: flags.Port = DEFAULT_PORT,
    device: flags.Devices = None,
    threads: flags.Threads = None,
    cache: flags.Cache = False,
    cache_dir: flags.CacheDir = None,
    cache_limit: flags.CacheLimit = None,
    models: flags.Models = None,
    weight_cache: flags.WeightCache = None,
    protocol: flags.Protocol = "auto",
    op_table: flags.OpTableDate = None,
    profile: flags.Profile = False,
    log_level: flags.Level = None,
    log_format: flags.Format = LogFormat.text,
    max_memory: flags.MaxMemory = None,
    max_client_memory: flags.MaxClientMemory = None,
    max_clients: flags.MaxClients = 4096,
    max_clients_per_address: flags.MaxClientsPerAddress = 1024,
    max_message: flags.MaxMessage = "64M",
    max_nodes: flags.MaxNodes = 1 << 17,
    hello_timeout: flags.HelloTimeout = 10,
    message_timeout: flags.MessageTimeout = 60,
    idle_timeout: flags.IdleTimeout = None,
    grace: flags.Grace = 30,
    allow: flags.Allow = None,
    tls_cert: flags.TlsCert = None,
    tls_key: flags.TlsKey = None,
    tls_client_ca: flags.TlsClientCa = None,
) -> None:
    """Serve this machine's devices to llama.cpp.

    The log goes to stderr. Ctrl-C or SIGTERM waits for running graphs and then stops
    the server; a second signal stops it immediately.

    The protocol has no passwords and no encryption: listen on trusted networks only, or
    use --allow, --tls-cert and --tls-client-ca. llama.cpp connects over TLS through
    'ggrpc tunnel'.
    """
    # Here and not above: no other command's help must wait for the engine.
    from ggrpc.engine.server.allowlist import Allowed
    from ggrpc.engine.server.fd_limit import clients_that_fit
    from ggrpc.engine.server.limits import Limits

    with logging_to(environment_of(context), log_level, log_format):
        size = _size(weight_cache)
        limits = Limits(
            memory=_size(max_memory),
            client_memory=_size(max_client_memory),
            clients=clients_that_fit(max_clients),
            clients_per_address=max_clients_per_address,
            message=parse_size(max_message),
            nodes=max_nodes,
            hello_seconds=hello_timeout,
            message_seconds=message_timeout,
            idle_seconds=idle_timeout,
        )
        endpoint = Endpoint.parse(str(Endpoint(host, port)))  # the host is checked
        devices = _devices(device, threads, size, profile)
        settings = replace(
            _settings(endpoint, devices, protocol, op_table),
            limits=limits,
            grace=grace,
            profile=profile,
            allowed=Allowed(allow or ()),
            tls=_tls(tls_cert, tls_key, tls_client_ca),
        )
        keeps = cache or cache_dir is not None
        room = _size(cache_limit)
        with _cache(keeps, cache_dir, room, models or [], devices) as opened:
            _run(replace(settings, cache=opened))


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _tls(cert: str | None, key: str | None, client_ca: str | None) -> Context | None:
    from ggrpc.engine.net.tls import server_context

    if cert:
        return server_context(cert, key, client_ca)
    if key or client_ca:
        raise ConfigError("--tls-key and --tls-client-ca need --tls-cert")
    return None


def _devices(
    names: str | None, threads: int | None, weight_cache: int | None, profile: bool
) -> Sequence[Device]:
    from ggrpc.devices.catalogue import Choices, open_devices

    return open_devices(names, Choices(threads, weight_cache, profile))


def _settings(
    endpoint: Endpoint, devices: Sequence[Device], protocol: str, op_table: str | None
) -> ServerSettings:
    from ggrpc.engine.server.negotiation import (
        AdaptiveNegotiator,
        FixedNegotiator,
        Negotiator,
        state_file,
    )
    from ggrpc.engine.server.server import ServerSettings
    from ggrpc.engine.wire.dialects import dialects_named
    from ggrpc.engine.wire.op_tables import op_table_named

    negotiator: Negotiator = AdaptiveNegotiator(state_file())
    if protocol != "auto":
        negotiator = FixedNegotiator(dialects_named(protocol))
    table = op_table_named(op_table) if op_table else None
    return ServerSettings(endpoint, devices, negotiator, table)


@contextmanager
def _cache(
    keeps: bool,
    folder: Path | None,
    limit: int | None,
    models: Sequence[Path],
    devices: Sequence[Device],
) -> Iterator[TensorCache | None]:
    if not keeps and not models:
        yield None
        return
    from ggrpc.engine.cache.accelerated_hash import Hashing
    from ggrpc.engine.cache.models import Indexer, files_of
    from ggrpc.engine.cache.store import TensorCache

    files = [file for path in models for file in files_of(path)]
    hashing = Hashing(lambda: devices)
    with TensorCache(folder, limit, keeps, hashing) as cache:
        if keeps:
            log.info("cache %s", cache)
        with Indexer(files, cache.index, hashing):
            yield cache


def _run(settings: ServerSettings) -> None:
    from ggrpc.engine.server import sd_notify
    from ggrpc.engine.server.server import Server

    with Server(settings) as server:

        def stop() -> None:
            sd_notify.notify(sd_notify.STOPPING)
            server.stop()

        at_signal(stop)
        _announce(settings, server)
        sd_notify.notify(sd_notify.READY)
        server.run()
    if server.unfinished:
        log.error("%d sessions did not end: the process exits now", server.unfinished)
        os._exit(ExitCode.CHECK_FAILED)
    log.info("stopped")


def _announce(settings: ServerSettings, server: Server) -> None:
    log.info("ggrpc %s speaks protocol %s", __version__, settings.negotiator)
    for number, device in enumerate(settings.devices):
        free, total = map(format_size, device.memory())
        log.info(
            "device %d is %s: %s, %s of %s free",
            *(number, device.name, device.description, free, total),
        )
    for endpoint in server.endpoints:
        log.info("listening on %s", endpoint)
    if not all(ip_address(endpoint.host).is_loopback for endpoint in server.endpoints):
        _warn_if_open(settings)


def _warn_if_open(settings: ServerSettings) -> None:
    clients_are_known = settings.tls and settings.tls.verify_mode
    if settings.allowed.everybody and not clients_are_known:
        log.warning(
            "other machines can connect: every client that reaches this address can "
            "compute and fill the memory%s; restrict access with --allow, --tls-cert "
            "and --tls-client-ca",
            "" if settings.tls else ", and nothing is encrypted",
        )
