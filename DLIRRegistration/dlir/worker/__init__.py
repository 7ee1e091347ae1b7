"""Registration in a process of its own, which stays warm between requests: `python -m dlir.worker`."""
