"""What moves: the wire, the server and its sessions, the client."""
