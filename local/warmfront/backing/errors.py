"""Errors of backing services."""


class BackingError(RuntimeError):
    """A backing service is not available; the message says which, where, and how to fix it."""


class PortTakenError(BackingError):
    """Another process took the port after it was found free and before the server bound it."""
