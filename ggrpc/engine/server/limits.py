"""What one client may have, and all together: plain numbers, checked elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

# Bytes a second that a client must manage, on average over a wait: less than any line
# that a model is spread over, and more than what is sent to hold a thread.
SLOWEST = 16 << 10
# The system allows a process some 65,000 pieces of memory, of which each buffer is one.
# llama.cpp takes some ten for each client.
CLIENT_BUFFERS = 4096
# Bytes of requests that are on their way, all clients together: the graphs of some
# hundred large models, that all change at the same moment.
MESSAGES = 1 << 30
BUFFERS = 32_768
# Graphs that are checked and compiled at once, which no two threads do faster than one:
# with hundreds, a new client's HELLO would wait for Python's lock behind all of them.
COMPILING = 2


@dataclass(frozen=True)
class Limits:
    """What `ggrpc serve` allows. None: as much as there is, or for ever.

    Attributes:
        memory: bytes of buffers, all clients together.
        client_memory: bytes of buffers, each client.
        clients: connections at once.
        clients_per_address: connections at once from one address.
        message: bytes of a request, but for a tensor's data, which needs no memory.
        nodes: of a graph.
        hello_seconds: to greet, from connecting on.
        message_seconds: to go on with a request that has begun, or to take a reply.
        idle_seconds: between two requests.
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
