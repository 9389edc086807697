"""The flags by which every command that asks servers speaks TLS with them.

They are given once, before the command or behind it, or by the environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from ggrpc.commands.environment import Environment, environment_of

NAMES = ("tls", "tls_ca", "tls_cert", "tls_key")


def _chooses(field: str) -> Callable[[typer.Context, Any], None]:
    """A callback that keeps one flag's value, and lets clients follow all of them."""

    def choose(context: typer.Context, value: Any) -> None:
        if value:
            environment = environment_of(context)
            environment.tls = replace(environment.tls, **{"wanted": True, field: value})
            _follow(environment)

    return choose


def _follow(environment: Environment) -> None:
    # Here and not above: it takes a while, and most runs need none of it.
    from ggrpc.engine.net.tls import client_context, use_for_clients

    tls = environment.tls
    use_for_clients(lambda: client_context(tls.ca, tls.cert, tls.key))


def forget(environment: Environment) -> None:
    """Let the clients of the next run in this process speak plainly again."""
    if environment.tls.wanted:
        from ggrpc.engine.net.tls import use_for_clients

        use_for_clients(None)


def _file(flag: str, field: str, text: str) -> Any:
    return typer.Option(
        flag,
        metavar="FILE",
        envvar=f"GGRPC_{flag.strip('-').upper().replace('-', '_')}",
        callback=_chooses(field),
        expose_value=False,
        show_default=False,
        help=text,
    )


Wanted = Annotated[
    bool,
    typer.Option(
        "--tls",
        envvar="GGRPC_TLS",
        callback=_chooses("wanted"),
        expose_value=False,
        help="Speak TLS with servers.",
    ),
]
Ca = Annotated[
    str | None, _file("--tls-ca", "ca", "Trust servers of these CAs (PEM); TLS.")
]
Cert = Annotated[
    str | None, _file("--tls-cert", "cert", "Show servers this certificate (PEM); TLS.")
]
Key = Annotated[
    str | None, _file("--tls-key", "key", "The key, where it has a file of its own.")
]
