"""What goes wrong with a backing service, as messages for people. Knows nothing of how the services are run."""


class BackingError(RuntimeError):
    """A backing service cannot be had; the message names what, where, and what to do."""


class PortTakenError(BackingError):
    """Somebody else got the port between the probe and the server's own bind."""
