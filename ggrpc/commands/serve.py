"""`ggrpc serve`: runs a worker for llama.cpp until SIGINT or SIGTERM."""

from __future__ import annotations

import logging
import os
from ipaddress import ip_address
from pathlib import Path

import typer

from ggrpc import __version__
from ggrpc.commands import serve_options as flags
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.logs import LogFormat, logging_to
from ggrpc.commands.signals import at_hangup, at_signal
from ggrpc.commands.unused_options import refuse_unused
from ggrpc.endpoint import DEFAULT_PORT, Endpoint
from ggrpc.engine.net.certificate import own_certificate
from ggrpc.engine.server import sd_notify
from ggrpc.engine.server.address_limit import clients_with_stacks, limit_arenas
from ggrpc.engine.server.build import (
    AUTO,
    ServerOptions,
    build_server,
    reload_tls,
)
from ggrpc.engine.server.client_versions import ClientVersions, state_file
from ggrpc.engine.server.fd_limit import clients_that_fit
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.server import Server
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.errors import ConfigError, GgrpcError
from ggrpc.units import format_size, parse_size

EXAMPLES = ("ggrpc serve", "ggrpc serve --host 0.0.0.0 --port 50053 --threads 8")

MAX_SHOWN = 8  # addresses of clients in the log
SOON_DAYS = 14  # warn if a certificate expires within this time

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
    protocol: flags.Protocol = AUTO,
    forget_clients: flags.ForgetClients = False,
    op_table: flags.OpTableDate = None,
    profile: flags.Profile = False,
    warm_up: flags.WarmUp = True,
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
    no_comm: flags.NoComm = False,
    comm_peers: flags.CommPeers = None,
    comm_timeout: flags.CommTimeout = 120,
) -> None:
    """Serve this machine's devices to llama.cpp.

    The log goes to stderr. Ctrl-C or SIGTERM waits for running graphs and then stops
    the server; a second signal stops it immediately.

    The protocol has no passwords and no encryption: listen on trusted networks only, or
    use --allow, --tls-cert and --tls-client-ca. llama.cpp connects over TLS through
    'ggrpc tunnel'. SIGHUP reads the certificates again; it stops the server only if its
    terminal was closed.

    With 'llama-server -sm tensor', two servers link with each other. The first server
    of --rpc listens on its port + 1000 until the second one has connected. The second
    server connects only to addresses in --comm-peers or --allow.
    """
    if no_comm:
        refuse_unused(context, ("comm_peers", "comm_timeout"), "with --no-comm")
    with logging_to(environment_of(context), log_level, log_format):
        limit_arenas()
        clients = state_file()
        if forget_clients:
            ClientVersions(clients).forget()
        limits = Limits(
            memory=_size(max_memory),
            client_memory=_size(max_client_memory),
            clients=clients_that_fit(clients_with_stacks(max_clients)),
            clients_per_address=max_clients_per_address,
            message=parse_size(max_message),
            nodes=max_nodes,
            hello_seconds=hello_timeout,
            message_seconds=message_timeout,
            idle_seconds=idle_timeout,
        )
        options = ServerOptions(
            # Parsing validates the host.
            endpoint=Endpoint.parse(str(Endpoint(host, port))),
            devices=device,
            threads=threads,
            weight_cache=_size(weight_cache),
            cache=cache or cache_dir is not None,
            cache_dir=cache_dir,
            cache_limit=_size(cache_limit),
            models=tuple(models or ()),
            protocol=protocol,
            op_table=op_table,
            negotiation_state=clients,
            limits=limits,
            allow=tuple(allow or ()),
            tls_certificate=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            comm=not no_comm,
            comm_peers=tuple(comm_peers or ()),
            comm_timeout=comm_timeout,
            profile=profile,
            warm_up=warm_up,
            grace=grace,
        )
        _serve(options)


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _serve(options: ServerOptions) -> None:
    with build_server(options) as server:

        def stop() -> None:
            sd_notify.notify(sd_notify.STOPPING)
            server.stop()

        def reload() -> None:
            if not options.tls_certificate:
                log.info("SIGHUP has nothing to read again without --tls-cert")
                return
            try:
                reload_tls(server, options)
            except GgrpcError as error:
                log.error("the certificates are unchanged: %s", error)
            else:
                log.info("the certificates were reloaded, for new connections")
                _announce_certificate(server.settings, options)

        at_signal(stop)
        at_hangup(reload, stop)
        _announce(server)
        _announce_certificate(server.settings, options)
        if options.protocol == AUTO and options.negotiation_state:
            _announce_clients(options.negotiation_state)
        sd_notify.notify(sd_notify.READY)
        server.run()
        if server.unfinished:
            log.error(
                "%d sessions did not end: the process exits now", server.unfinished
            )
            os._exit(ExitCode.CHECK_FAILED)
    log.info("stopped")


def _announce(server: Server) -> None:
    settings = server.settings
    log.info("ggrpc %s speaks protocol %s", __version__, settings.negotiator)
    for number, device in enumerate(settings.devices):
        limit = settings.limits.memory
        memory = device.memory() if limit is None else device.memory().within(limit)
        free, total = map(format_size, memory)
        log.info(
            "device %d is %s: %s, %s of %s free%s",
            *(number, device.name, device.description, free, total),
            "" if limit is None else " for clients (--max-memory)",
        )
    secured = " with TLS" if settings.tls else ""
    if settings.tls and settings.tls.verify_mode:
        secured += " for clients with a certificate"
    for endpoint in server.endpoints:
        log.info("listening on %s%s", endpoint, secured)
    if not all(ip_address(endpoint.host).is_loopback for endpoint in server.endpoints):
        _warn_if_open(settings)


def _announce_certificate(settings: ServerSettings, options: ServerOptions) -> None:
    """Log the names of the certificate; warn if it is invalid or expires soon."""
    file = options.tls_certificate
    if settings.tls is None or file is None:
        return
    try:
        certificate = own_certificate(settings.tls, file)
    except ConfigError as error:
        log.warning("%s", error)
        return
    until, days = f"{certificate.until:%Y-%m-%d}", certificate.days_left
    names = ", ".join(certificate.names) or "no name: clients will reject it"
    log.info("the certificate in %s is for %s, until %s", file, names, until)
    advice = "renew it, then send SIGHUP to this process"
    if days < 0:
        log.warning("the certificate in %s expired on %s: %s", file, until, advice)
    elif certificate.is_too_new:
        since = f"{certificate.since:%Y-%m-%d}"
        log.warning("the certificate in %s is not valid before %s", file, since)
    elif days < SOON_DAYS:
        log.warning("the certificate in %s expires in %d days: %s", file, days, advice)


def _announce_clients(file: Path) -> None:
    clients = ClientVersions(file).clients()
    if not clients:
        return
    latest = reversed(clients.items())
    shown = [f"{host} {spoken[0].dialect.version}" for host, spoken in latest]
    more = f" and {len(shown) - MAX_SHOWN} more" if len(shown) > MAX_SHOWN else ""
    log.info(
        "clients seen before and their protocol: %s%s (%s; --forget-clients clears it)",
        *(", ".join(shown[:MAX_SHOWN]), more, file),
    )


def _warn_if_open(settings: ServerSettings) -> None:
    clients_are_known = settings.tls and settings.tls.verify_mode
    if settings.allowlist.allows_all and not clients_are_known:
        log.warning(
            "other machines can connect: every client that reaches this address can "
            "compute and fill the memory%s; restrict access with --allow, --tls-cert "
            "and --tls-client-ca",
            "" if settings.tls else ", and nothing is encrypted",
        )
