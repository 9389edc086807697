"""The `ggrpc` command, which `python -m ggrpc` is too."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; Ctrl-C ends it quietly while its modules load, too."""
    try:
        from ggrpc.commands.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)  # as ExitCode.INTERRUPTED, which is not loaded yet
    run()


if __name__ == "__main__":
    main()
