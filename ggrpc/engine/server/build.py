"""Builds a server from options, for `ggrpc serve` and `ggrpc.start_server`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from ssl import SSLContext

from ggrpc.devices.catalogue import Choices, opened_devices
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.loading import THRESHOLD
from ggrpc.engine.cache.models import Indexer, files_of
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.engine.net.tls import client_context, server_context
from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.engine.server.client_versions import ClientVersions
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.negotiation import (
    AdaptiveNegotiator,
    FixedNegotiator,
    Negotiator,
)
from ggrpc.engine.server.server import Server
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.engine.wire.dialects import dialects_named
from ggrpc.engine.wire.op_tables import op_table_named
from ggrpc.errors import ConfigError
from ggrpc.units import format_size

AUTO = "auto"  # the protocol that detects the version of each client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """What a user chooses about a server, as plain values.

    Attributes:
        endpoint: the address to listen on; port 0 picks a free port.
        devices: names separated by commas, or open devices. None selects the best
            devices of this machine.
        threads: the number of threads of the cpu device, None for one per processor.
        weight_cache: bytes for unpacked weights on the cpu device, None for a quarter
            of the memory.
        cache: whether to cache large tensors on disk.
        cache_dir: the cache's folder, None for llama.cpp's.
        cache_limit: bytes of the cache, None for a tenth of the disk.
        models: GGUF files and folders of them, whose tensors clients need not send.
        protocol: `auto`, or versions separated by commas.
        op_table: the date of the op table of all clients, None to detect it.
        negotiation_state: a file that keeps detected versions, None to keep nothing.
        limits: the limits for each client and for all clients together.
        allow: addresses and networks that may connect, empty for all.
        tls_certificate: a PEM file with the certificate, None for no TLS.
        tls_key: a PEM file with the private key, None if the certificate's file has it.
        tls_client_ca: a PEM file with the CAs of clients, None to accept all clients.
        comm: whether devices may be linked with those of other servers.
        comm_peers: addresses and networks of servers to link with, empty for `allow`.
        comm_timeout: how many seconds a linked server may be silent during a reduction.
        profile: whether to log a time profile for each session.
        warm_up: whether devices prepare for common models when the server starts.
        grace: how many seconds a stop waits for running requests.
    """

    endpoint: Endpoint
    devices: str | Sequence[Device] | None = None
    threads: int | None = None
    weight_cache: int | None = None
    cache: bool = False
    cache_dir: Path | None = None
    cache_limit: int | None = None
    models: Sequence[Path] = ()
    protocol: str = AUTO
    op_table: str | None = None
    negotiation_state: Path | None = None
    limits: Limits = field(default_factory=Limits)
    allow: Sequence[str] = ()
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    comm: bool = True
    comm_peers: Sequence[str] = ()
    comm_timeout: float = CommSettings.timeout
    profile: bool = False
    warm_up: bool = True
    grace: float = 30.0


@contextmanager
def build_server(options: ServerOptions) -> Iterator[Server]:
    """A context with a server that listens; its end stops the server and closes all.

    Raises:
        ConfigError: an option is invalid.
        FileError: a certificate, a model or the cache cannot be used.
        BindError: the address is not available.
        DeviceError: a device cannot be used.
    """
    negotiator = _negotiator(options)
    op_table = op_table_named(options.op_table) if options.op_table else None
    allowlist, tls = Allowlist(options.allow), _tls(options)
    comm = _comm(options, allowlist, tls)
    with ExitStack() as resources:
        devices = resources.enter_context(_devices(options))
        _check_memory(options.limits, devices)
        cache = resources.enter_context(_opened_cache(options, devices))
        settings = ServerSettings(
            options.endpoint,
            devices,
            negotiator,
            op_table,
            options.limits,
            allowlist,
            tls,
            cache,
            comm,
            profile=options.profile,
            warm_up=options.warm_up,
            grace=options.grace,
        )
        server = Server(settings)
        try:
            with server:
                yield server
        finally:
            if server.unfinished:
                resources.pop_all()  # a session still uses them


def reload_tls(server: Server, options: ServerOptions) -> None:
    """Read the certificates of a server again, for later connections.

    Raises:
        ConfigError: a file cannot be used; the server keeps the certificates it has.
    """
    tls = _tls(options)
    comm = _comm(options, server.settings.allowlist, tls)
    server.settings = replace(server.settings, tls=tls, comm=comm)


def _devices(options: ServerOptions) -> AbstractContextManager[Sequence[Device]]:
    """The devices to serve; those that the caller has opened stay open."""
    if options.devices is None or isinstance(options.devices, str):
        choices = Choices(options.threads, options.weight_cache, options.profile)
        return opened_devices(options.devices, choices)
    return nullcontext(options.devices)


def _check_memory(limits: Limits, devices: Sequence[Device]) -> None:
    total = sum(device.memory().total for device in devices)
    for flag, size in (
        ("--max-memory", limits.memory),
        ("--max-client-memory", limits.client_memory),
    ):
        if size == 0:
            raise ConfigError(
                f"{flag} 0 leaves clients no memory: choose more, or omit {flag} to "
                "allow all of it"
            )
        if size is not None and size > total:
            raise ConfigError(
                f"{flag} {format_size(size)} exceeds the memory of the devices, "
                f"{format_size(total)}: choose less, or omit {flag}"
            )


def _negotiator(options: ServerOptions) -> Negotiator:
    if options.protocol == AUTO:
        return AdaptiveNegotiator(ClientVersions(options.negotiation_state))
    return FixedNegotiator(dialects_named(options.protocol))


def _tls(options: ServerOptions) -> SSLContext | None:
    key, client_ca = options.tls_key, options.tls_client_ca
    if options.tls_certificate:
        return server_context(options.tls_certificate, key, client_ca)
    if key or client_ca:
        raise ConfigError("--tls-key and --tls-client-ca need --tls-cert")
    return None


def _comm(
    options: ServerOptions, allowlist: Allowlist, tls: SSLContext | None
) -> CommSettings:
    certificate, client_ca = options.tls_certificate, options.tls_client_ca
    client_tls = None
    if certificate and client_ca:
        client_tls = client_context(client_ca, certificate, options.tls_key)
    peers = Allowlist(options.comm_peers, "--comm-peers")
    return CommSettings(
        options.comm,
        options.endpoint.host,
        allowlist,
        None if peers.allows_all else peers,
        tls,
        client_tls,
        options.comm_timeout,
    )


def _check_limit(options: ServerOptions) -> None:
    """Check the limit of the cache.

    Raises:
        ConfigError: it has no effect, or is too small for any tensor.
    """
    limit = options.cache_limit
    if limit is None:
        return
    if not options.cache:
        raise ConfigError("--cache-limit has no effect without -c or --cache-dir")
    if limit <= THRESHOLD:
        raise ConfigError(
            f"--cache-limit {format_size(limit)} leaves no room: only tensors of more "
            f"than {format_size(THRESHOLD)} are cached"
        )


@contextmanager
def _opened_cache(
    options: ServerOptions, devices: Sequence[Device]
) -> Iterator[TensorCache | None]:
    _check_limit(options)
    if not options.cache and not options.models:
        yield None
        return
    files = [file for path in options.models for file in files_of(path)]
    hashing = Hashing(lambda: devices)
    with TensorCache(
        options.cache_dir, options.cache_limit, options.cache, hashing
    ) as cache:
        if options.cache:
            log.info("cache %s", cache)
            if cache.limit <= THRESHOLD:
                log.warning(
                    "nothing will be cached: a tenth of the disk is too small for "
                    "tensors of more than %s, and smaller ones are not cached; set "
                    "--cache-limit",
                    format_size(THRESHOLD),
                )
        with Indexer(files, cache.index, hashing):
            yield cache
