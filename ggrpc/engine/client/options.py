"""The options of a client's connection: timeout, version, op table and TLS."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import SSLContext

from ggrpc.engine.wire.dialects import Dialect, dialect_named
from ggrpc.engine.wire.op_tables import OpTable, op_table_named


@dataclass(frozen=True)
class ClientOptions:
    """How to connect to a server.

    Attributes:
        timeout: the maximum time in seconds to connect, and for each later operation;
            None for no limit.
        dialect: the protocol version to speak; None detects it.
        op_table: the server's op numbers; None takes the newest ones of its version.
        tls: the certificates to trust and to present; None connects without TLS.
        purpose: what the session is for, if it is a test, such as `check`; ggrpc's
            servers log it.
    """

    timeout: float | None = None
    dialect: Dialect | None = None
    op_table: OpTable | None = None
    tls: SSLContext | None = None
    purpose: str = ""

    @classmethod
    def named(
        cls,
        timeout: float | None = None,
        protocol: str | None = None,
        op_table: str | None = None,
        tls: SSLContext | None = None,
    ) -> ClientOptions:
        """Options with the version and the op table by name.

        Args:
            timeout: see the attribute.
            protocol: a version such as `7.0.0`; None detects it.
            op_table: the date of the server's op table, such as `2025-07-20`.
            tls: see the attribute.

        Raises:
            ConfigError: the version or the date is unknown.
        """
        return cls(
            timeout,
            dialect_named(protocol) if protocol else None,
            op_table_named(op_table) if op_table else None,
            tls,
        )
