"""The gateway's options, and the part of the Lambda service that it uses."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from warmfront.emulator.gateway.asgi import AsgiApp
from warmfront.emulator.gateway.exchange import Stamps
from warmfront.emulator.gateway.request_observer import RequestObserver
from warmfront.emulator.lambda_service.types import InvocationResult

_logger: Final = logging.getLogger("warmfront.gateway")


class Service(Protocol):
    """The part of the Lambda service that the gateway uses."""

    async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult: ...


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The emulator's choices that no template states."""

    internal: AsgiApp | None = None
    """Answers /_warmfront/ and the Invoke API's dated path on the first API's port."""
    enforce_auth: bool = False
    """False: routes behind JWT and IAM are open, and a token's claims reach the handler unverified."""
    jwks: str | None = None
    """File or URL of the public keys that tokens are verified with."""
    trust_tokens: bool = False
    """Take a token's signature on trust; everything else of it is checked."""
    enforce_throttles: bool = False
    """Hold requests to the template's ThrottlingRateLimit and ThrottlingBurstLimit."""
    region: str = "us-east-1"
    debugged: frozenset[str] = frozenset()
    """Logical ids of functions whose invocations are waited for without a limit, because somebody debugs them."""
    stamps: Stamps = field(default_factory=Stamps)
    monotonic: Callable[[], float] = time.monotonic
    """Measures throttles and how long an authorizer's answer is remembered."""
    note: Callable[[str], None] = field(default=lambda text: _logger.warning("%s", text))
    """Takes one line that explains a response the handler did not give."""
    observer: RequestObserver | None = None
    """Is told of each response; responses of every kind of API then carry their trace id."""
