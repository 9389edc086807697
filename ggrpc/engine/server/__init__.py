"""The server: connections, sessions, negotiation, quotas and time slices."""
