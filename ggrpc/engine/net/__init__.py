"""Sockets: TCP streams, TLS, time limits, accepting connections, forwarding."""
