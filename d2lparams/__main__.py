"""The command `d2lparams` from its first moment on: Ctrl-C while it is still loading shows no traceback.

Loading the rest takes some tenths of a second, in which there is nothing to tidy up.
"""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Load the command, and run it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: os._exit(128 + number))
    from d2lparams.cli import main as run

    run()


if __name__ == "__main__":
    main()
