"""Applies faults and always clears them again; the faults that act on a proxy, and those that repeat another fault.

A fault is an object with `apply` and `clear`. Clearing it twice, or after it was only partly applied, is harmless.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from warmfront.lab.proxy_process import ProxyProcess
from warmfront.lab.tcp_faults import TcpFault


class Fault(Protocol):
    """Something that can be broken and repaired."""

    async def apply(self) -> None: ...
    async def clear(self) -> None: ...


@contextlib.asynccontextmanager
async def applied(*faults: Fault) -> AsyncIterator[None]:
    """Apply the faults in order; clear them in reverse order, also if one could not be applied or the body failed."""
    async with contextlib.AsyncExitStack() as stack:
        for fault in faults:
            stack.push_async_callback(fault.clear)
            await fault.apply()
        yield


class OnProxy:
    """A TCP fault on one proxy of the proxy process."""

    def __init__(self, proxies: ProxyProcess, proxy: str, fault: TcpFault) -> None:
        self._proxies, self._proxy, self._fault = proxies, proxy, fault
        self._name = f"{fault.kind} {fault.direction}"

    async def apply(self) -> None:
        await self._proxies.add(self._proxy, self._name, self._fault)

    async def clear(self) -> None:
        await self._proxies.remove(self._proxy, self._name)


class Pulsed:
    """Applies another fault and clears it alternately, each for the same time, until it is cleared itself."""

    def __init__(self, fault: Fault, *, every_s: float) -> None:
        self._fault = fault
        self._every_s = every_s
        self._pulsing: asyncio.Task[None] | None = None

    async def apply(self) -> None:
        self._pulsing = asyncio.create_task(self._pulse())

    async def _pulse(self) -> None:
        while True:
            async with applied(self._fault):
                await asyncio.sleep(self._every_s)
            await asyncio.sleep(self._every_s)

    async def clear(self) -> None:
        if self._pulsing is None:
            return
        self._pulsing.cancel()
        (ended,) = await asyncio.gather(self._pulsing, return_exceptions=True)
        self._pulsing = None
        if isinstance(ended, Exception):
            raise ended
