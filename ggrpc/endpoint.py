"""The address of a server: `host:port`, `[v6]:port`, or a host alone (port 50052)."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.errors import ConfigError

DEFAULT_PORT = 50052  # that of llama.cpp's rpc-server


class Endpoint(NamedTuple):
    """A host name or address, and a TCP port."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Parse an endpoint.

        Raises:
            ConfigError: the text is not a valid endpoint.
        """
        host, colon, port = _split(text)
        if not _is_host(host) or (colon and not _is_port(port)):
            raise ConfigError(
                f"'{text}' is not a valid endpoint: write host:port, [v6]:port or host"
            )
        return cls(host, int(port) if colon else DEFAULT_PORT)


def _split(text: str) -> tuple[str, str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            return "", "", ""
        return host, rest[:1], rest[1:]
    if text.count(":") > 1:  # a v6 address without brackets
        return text, "", ""
    return text.partition(":")


def _is_host(text: str) -> bool:
    if set(text) & set("[]/,@ "):
        return False  # a typing error that the resolver would accept
    try:
        return bool(text.encode("idna"))  # as the resolver encodes it
    except UnicodeError:
        return False


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536
