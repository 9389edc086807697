"""Options of a client session."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import SSLContext

from ggrpc.engine.wire.dialects import Dialect, dialect_named
from ggrpc.engine.wire.op_tables import OpTable, op_table_named


@dataclass(frozen=True)
class ClientOptions:
    """How to connect to a server.

    Attributes:
        timeout: seconds for connecting, and for each later operation; None: no limit.
        dialect: the protocol version to speak; None detects it.
        op_table: the server's op numbers; None takes those of its version, the newest
            if the version had several.
        tls: the certificates to trust and to present; None connects without TLS.
        purpose: what ggrpc's servers log about the session, if it is a test: `check`.
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
        """Options from the names that an operator types.

        Args:
            timeout: as the attribute.
            protocol: a version such as `7.0.0`; None detects it.
            op_table: the day, such as `2025-07-20`, of the server's op numbers.
            tls: as the attribute.

        Raises:
            ConfigError: the version or the day is unknown.
        """
        return cls(
            timeout,
            dialect_named(protocol) if protocol else None,
            op_table_named(op_table) if op_table else None,
            tls,
        )
