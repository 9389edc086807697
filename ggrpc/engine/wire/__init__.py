"""The ggml RPC protocol without a socket: bytes in, messages out, and back.

The files, from the bottom: `commands` and `messages` (the requests and replies),
`op_tables` (the numbers of the ops), `tensors` and `graphs` (the two structures inside
messages), `layouts` (the layout of a payload), `dialects` (the differences between
protocol versions), `forks`, `identity` and `introduction` (what the peer is),
`other_protocols` (peers that are neither client nor server), `inbox` (received bytes),
`reply_rules` (checks of replies) and `connection` (one side of a connection).
"""
