"""What the gateway tells whoever watches it: each answered request, on the hot path. Nobody watching costs nothing."""

from typing import Protocol

from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.template import Api


class RequestObserver(Protocol):
    """Watches the requests of all APIs."""

    def answered(
        self, api: Api, method: str, path: str, call: Call | None, response: Response, request_id: str, began_ns: int
    ) -> None:
        """An answer has left. `call`: None where no route took the request; `began_ns`: of CLOCK_MONOTONIC."""
