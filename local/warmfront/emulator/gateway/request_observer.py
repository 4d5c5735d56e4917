"""The interface of an observer of the gateway's responses; it is called on the hot path."""

from typing import Protocol

from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.template import Api


class RequestObserver(Protocol):
    """Watches the requests of all APIs."""

    def answered(
        self, api: Api, method: str, path: str, call: Call | None, response: Response, request_id: str, began_ns: int
    ) -> None:
        """A response was sent. `call`: None where no route took the request; `began_ns`: of CLOCK_MONOTONIC."""
