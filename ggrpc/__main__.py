"""`python -m ggrpc` is the `ggrpc` command."""

from __future__ import annotations

from ggrpc.commands.main import main

if __name__ == "__main__":
    main()
