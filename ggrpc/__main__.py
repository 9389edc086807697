"""The entry point of `ggrpc` and of `python -m ggrpc`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command. Ctrl-C ends it quietly even while its modules load."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # A KeyboardInterrupt could be lost: see `interrupts_raised`.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ggrpc.commands.main import main as run

    run()


if __name__ == "__main__":
    main()
