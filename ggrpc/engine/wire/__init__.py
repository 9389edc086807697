"""The ggml RPC protocol without a socket: bytes in, messages out, and back.

The files, from the bottom: `commands` and `messages` (what can be said), `tensors` and
`graphs` (the two structures inside), `op_tables` and `dialects` (what differs between
protocol versions), `layouts` (how a message lies in a payload), `inbox` and
`connection` (one side of one conversation).
"""
