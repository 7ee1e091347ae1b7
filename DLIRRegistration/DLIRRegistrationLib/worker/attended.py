"""`python -m DLIRRegistrationLib.worker.attended ARGUMENTS`: the `dlir` command line, as long as its starter lives.

Stdin is the sign of life: when it is closed, the command is interrupted and cleans up, as by Ctrl-C.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading


def _watch() -> None:
    while os.read(0, 4096):
        pass
    if os.name == "nt":  # where a signal would end the process at once
        _thread.interrupt_main(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    from dlir.cli import main as run

    threading.Thread(target=_watch, daemon=True).start()
    sys.argv[0] = "dlir"
    run()


if __name__ == "__main__":
    main()
