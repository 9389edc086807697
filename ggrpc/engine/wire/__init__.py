"""The ggml RPC protocol without a socket: bytes in, messages out, and back.

The files, from the bottom: `commands` and `messages` (the requests and replies),
`tensors` and `graphs` (the two structures inside them), `op_tables` and `dialects` (the
differences between protocol versions), `forks` and `identity` (which server and client
speak something else), `layouts` (the layout of a payload), `inbox` and
`connection` (one side of a connection).
"""
