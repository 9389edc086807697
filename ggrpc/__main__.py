"""The entry point of `ggrpc` and of `python -m ggrpc`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Ctrl-C ends it quietly even while its modules load."""
    try:
        from ggrpc.commands.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)  # as ExitCode.INTERRUPTED, which is not loaded yet
    run()


if __name__ == "__main__":
    main()
