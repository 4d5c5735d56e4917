"""boto3 clients for the emulator's own calls to AWS, each call in a thread of its own.

boto3 is imported by the first call: a template that needs no AWS does not pay for it.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any


class AwsUnavailable(Exception):
    """There is no AWS to ask, or it did not answer; the message says what to do."""


class AwsClients:
    """One client per AWS service, made when it is first needed."""

    def __init__(self, session: Callable[[], Any], *, endpoint_url: str | None) -> None:
        """`session` makes the boto3 session, with region and credentials; `endpoint_url`: the local AWS, or None for the real one."""
        self._make_session = session
        self._session: Any = None
        self._endpoint_url = endpoint_url
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """`sqs`, `send_message`, ...: the answer. Raises AwsUnavailable, worded for people."""
        return await in_thread(lambda: self._call(service, operation, parameters))

    def _call(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client(service), operation)(**parameters)
        except (BotoCoreError, ClientError) as error:
            raise AwsUnavailable(f"{service} {operation}: {error}") from error
        return answer

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        with self._lock:
            if service not in self._clients:
                if self._session is None:
                    self._session = self._make_session()
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self._endpoint_url,
                    # A long poll lasts 20 s; a local server that is gone should not be asked five times.
                    config=Config(read_timeout=30, connect_timeout=3, retries={"total_max_attempts": 2}),
                )
            return self._clients[service]


async def in_thread[T](call: Callable[[], T]) -> T:
    """Run a blocking call in a daemon thread, so that neither it nor the end of the emulator waits for the other."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(outcome: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)  # type: ignore[arg-type]

    def run() -> None:
        outcome, error = None, None
        try:
            outcome = call()
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(tell, outcome, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=run, daemon=True, name="aws").start()
    return await future
