"""Limits for each client and for all clients together, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

# Each buffer takes a memory mapping, and Linux allows a process about 65,000 of them.
# llama.cpp allocates about ten buffers per client.
BUFFERS = 32_768
CLIENT_BUFFERS = 4096
# Bytes of requests that are arriving, of all clients together: enough for the graphs of
# some hundred large models at the same moment.
MESSAGES = 1 << 30
# Graphs that are checked and compiled at the same time. More threads would not be
# faster, because they wait for the GIL, and they would delay a new client.
COMPILING = 2


@dataclass(frozen=True)
class Limits:
    """The limits of a server. None stands for no limit.

    Attributes:
        memory: bytes of buffers of all clients together.
        client_memory: bytes of buffers of each client.
        clients: connections at the same time.
        clients_per_address: connections from one address at the same time.
        message: bytes of a request, not counting a tensor's data, which goes straight
            into the buffer.
        nodes: nodes of a graph.
        hello_seconds: how long a client may take from connecting to HELLO.
        message_seconds: how long a client may pause within a request or a reply.
        idle_seconds: how long a client may pause between two requests.
    """

    memory: int | None = None
    client_memory: int | None = None
    clients: int = 4096
    clients_per_address: int = 1024
    message: int = 64 << 20
    nodes: int = 1 << 17
    hello_seconds: float = 10
    message_seconds: float = 60
    idle_seconds: float | None = None
