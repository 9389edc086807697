"""The ggml RPC protocol without a socket: bytes in, messages out, and back.

The files, from the bottom: `commands` and `messages` (the requests and replies),
`tensors` and `graphs` (the two structures inside them), `op_tables` and `dialects` (the
differences between protocol versions), `layouts` (the layout of a payload), `inbox` and
`connection` (one side of a connection).
"""
