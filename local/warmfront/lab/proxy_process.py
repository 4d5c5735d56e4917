"""Starts, controls and stops the proxy process."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from warmfront.lab.tcp_faults import FaultError, TcpFault

ANSWER_TIMEOUT_S = 10.0  # the proxy answers within a millisecond; this is for a proxy that has died


@dataclass(frozen=True, slots=True)
class ProxyStats:
    """Counts of one proxy since its start or the last `reset_stats`."""

    accepted: int
    open: int
    open_max: int
    dial_errors: int
    over_limit: int
    bytes: Mapping[str, int]
    faults: Mapping[str, Mapping[str, Any]]


class ProxyProcess:
    """One process with a proxy per backing service. An async context manager."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "warmfront.lab.proxy"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # signals to the group go to the parent only; the proxy ends with its pipe
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def listen(self, proxy: str, *, host: str, port: int) -> int:
        """Open a proxy in front of host:port and return its port on 127.0.0.1."""
        answer = await self._command("listen", proxy, host=host, port=port)
        return int(answer["port"])

    async def redirect(self, proxy: str, *, host: str, port: int) -> None:
        """Send new connections to host:port from now on."""
        await self._command("redirect", proxy, host=host, port=port)

    async def add(self, proxy: str, name: str, fault: TcpFault) -> None:
        await self._command("add", proxy, name=name, fault={**asdict(fault), "settings": dict(fault.settings)})

    async def remove(self, proxy: str, name: str) -> None:
        await self._command("remove", proxy, name=name)

    async def clear(self, proxy: str) -> None:
        await self._command("clear", proxy)

    async def stats(self, proxy: str) -> ProxyStats:
        return ProxyStats(**await self._command("stats", proxy))

    async def reset_stats(self, proxy: str) -> None:
        await self._command("reset_stats", proxy)

    async def _command(self, command: str, proxy: str, **fields: object) -> dict[str, Any]:
        line = json.dumps({"command": command, "proxy": proxy, **fields}).encode() + b"\n"
        # Shielded: a cancelled command must not leave its answer in the pipe, where the next one would read it.
        return await asyncio.shield(self._exchange(line))

    async def _exchange(self, line: bytes) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise FaultError("the proxy process is not running; use `async with ProxyProcess()`")
        async with self._turn:  # answers arrive in the order of the commands
            process.stdin.write(line)
            answer = await asyncio.wait_for(process.stdout.readline(), ANSWER_TIMEOUT_S)
        if not answer:
            raise FaultError(f"the proxy process ended with status {await process.wait()}; its stderr says why")
        parsed: dict[str, Any] = json.loads(answer)
        if "error" in parsed:
            raise FaultError(str(parsed["error"]))
        return parsed
