"""The command `d2lparams` from its first moment on: Ctrl-C while it is still loading shows no traceback.

Loading the rest takes some tenths of a second, in which there is nothing to tidy up.
"""

from __future__ import annotations

import gc
import os
import signal


def collect_seldom() -> None:
    """Have Python look for cycles after a million new objects, which 140,000 observations are made of.

    What a command makes is kept to its end, and hardly any of it is a cycle. By default all of it is looked
    through again and again as it grows, which takes several times as long as to read it.
    """
    gc.set_threshold(1_000_000, 10, 10)


def main() -> None:
    """Load the command, and run it."""
    collect_seldom()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: os._exit(128 + number))
    from d2lparams.cli import main as run

    run()


if __name__ == "__main__":
    main()
