"""The TLS flags of every command that connects to servers.

They can stand before or after the command, or come from environment variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ggrpc.commands.environment import Environment, environment_of

if TYPE_CHECKING:
    from ssl import SSLContext

    from ggrpc.engine.client.options import ClientOptions

NAMES = ("tls", "tls_ca", "tls_cert", "tls_key")


def _stores(field: str) -> Callable[[typer.Context, Any], None]:
    """A callback that stores a flag's value in the environment, and enables TLS."""

    def store(context: typer.Context, value: Any) -> None:
        if value:
            environment = environment_of(context)
            environment.tls = replace(environment.tls, **{"wanted": True, field: value})

    return store


def tls_context(environment: Environment) -> SSLContext | None:
    """The certificates that the flags name; None without TLS.

    Raises:
        ConfigError: a key was given without a certificate.
        FileError: a file cannot be used.
    """
    # Imported here: main.py imports this module, and --help must not load the engine.
    from ggrpc.engine.net.tls import client_context

    tls = environment.tls
    return client_context(tls.ca, tls.cert, tls.key) if tls.wanted else None


def client_options(
    environment: Environment,
    timeout: float,
    protocol: str | None = None,
    op_table: str | None = None,
) -> ClientOptions:
    """The options of a command's sessions, from its flags.

    Raises:
        ConfigError: a flag is invalid.
        FileError: a file cannot be used.
    """
    # Imported here for the same reason as in `tls_context`.
    from ggrpc.engine.client.options import ClientOptions

    tls = tls_context(environment)
    return ClientOptions.named(timeout, protocol, op_table, tls)


def _file(flag: str, field: str, text: str) -> Any:
    return typer.Option(
        flag,
        metavar="FILE",
        envvar=f"GGRPC_{flag.strip('-').upper().replace('-', '_')}",
        callback=_stores(field),
        expose_value=False,
        show_default=False,
        help=text,
    )


Wanted = Annotated[
    bool,
    typer.Option(
        "--tls",
        envvar="GGRPC_TLS",
        callback=_stores("wanted"),
        expose_value=False,
        help="Connect to servers over TLS.",
    ),
]
Ca = Annotated[
    str | None, _file("--tls-ca", "ca", "CAs that sign server certificates (PEM).")
]
Cert = Annotated[
    str | None, _file("--tls-cert", "cert", "Certificate to present to servers (PEM).")
]
Key = Annotated[
    str | None, _file("--tls-key", "key", "Private key of the certificate.")
]
