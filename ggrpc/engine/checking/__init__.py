"""Is a node healthy? Whether it keeps to the protocol, and whether it reckons right."""
