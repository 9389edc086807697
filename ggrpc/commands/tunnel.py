"""`ggrpc tunnel`: forwards a plain local port to a TLS server."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import Annotated

import typer

from ggrpc.commands.endpoints import one_endpoint
from ggrpc.commands.environment import environment_of
from ggrpc.commands.logs import LogFormat, logging_to
from ggrpc.commands.signals import at_hangup, at_signal
from ggrpc.commands.tls_options import tls_context
from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.proxy import Proxy
from ggrpc.engine.net.tls import TlsStream, client_context
from ggrpc.engine.net.transport import Stream
from ggrpc.errors import ConfigError, GgrpcError

EXAMPLES = (
    "ggrpc tunnel 50052 gpu1.lan:50052 --tls-ca ca.pem",
    "ggrpc tunnel 50052 gpu1.lan --tls-ca ca.pem --tls-cert me.pem --tls-key me.key",
)

CONNECT_TIMEOUT = 10.0  # seconds

log = logging.getLogger(__name__)

Listen = Annotated[str, typer.Argument(metavar="LISTEN", hidden=True)]
Server = Annotated[str, typer.Argument(metavar="ENDPOINT", hidden=True)]
Expose = Annotated[
    bool,
    typer.Option(
        "--expose", help="Allow a LISTEN address that other machines can reach."
    ),
]


def tunnel(
    context: typer.Context, listen: Listen, endpoint: Server, expose: Expose = False
) -> None:
    """Forward a plain local port to a TLS server.

    LISTEN is a port of 127.0.0.1, or host:port. Connections to it are forwarded to
    ENDPOINT over TLS: 'llama-server --rpc 127.0.0.1:LISTEN' computes on a 'ggrpc serve
    --tls-cert'. Every program that can connect to LISTEN uses the certificate of this
    machine, so LISTEN must be a loopback address unless you give --expose.

    Ctrl-C or SIGTERM closes all connections and stops the tunnel. SIGHUP reads the
    certificates again; it stops the tunnel only if its terminal was closed.
    """
    plain, server = plain_endpoint(listen, expose), one_endpoint(endpoint)
    environment = environment_of(context)
    tls = tls_context(environment) or client_context()

    def connect() -> Stream:
        return TlsStream.connect_with(tls, server, Deadline(CONNECT_TIMEOUT, None))

    def reload() -> None:
        nonlocal tls
        try:
            tls = tls_context(environment) or client_context()
        except GgrpcError as error:
            log.error("the certificates are unchanged: %s", error)
        else:
            log.info("the certificates were reloaded, for new connections")

    with logging_to(environment, None, LogFormat.text):
        running = Proxy(plain, server, connect)
        at_signal(running.stop)
        at_hangup(reload, running.stop)
        for address in running.endpoints:
            log.info("listening on %s, for %s", address, server)
        running.run()
        log.info("stopped")


def plain_endpoint(text: str, exposed: bool) -> Endpoint:
    """The endpoint to listen on: a port of 127.0.0.1, or an address.

    Raises:
        ConfigError: other machines can reach it, and `exposed` is False.
    """
    endpoint = Endpoint.parse(f"127.0.0.1:{text}" if text.isdigit() else text)
    if not (exposed or _is_loopback(endpoint.host)):
        raise ConfigError(
            f"other machines can reach {endpoint} and use this machine's certificate: "
            "listen on 127.0.0.1, or add --expose"
        )
    return endpoint


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
