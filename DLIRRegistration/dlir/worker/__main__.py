"""`python -m dlir.worker`."""

from dlir.worker.server import main

main()
