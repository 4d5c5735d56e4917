"""Procedures that check how a function starts and what it logs: bad settings, library defaults, hostile requests, secrets."""

import asyncio
import math
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from warmfront.lab.fault_actions import applied
from warmfront.lab.http_client import NoAnswer, Reply
from warmfront.lab.load_procedures import load
from warmfront.lab.scene import LogPart, Observation, Scene, build_fault

SETTLE_S = 0.5  # a function's output reaches the log file a moment later


class BadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `refusal`: the first request to a function with wrong settings."""

    path: str
    names: str  # text that its log must contain
    within_s: float = 20.0


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `secrets`: requests while everything fails, then a search for secrets in responses and logs."""

    requests: list[str]
    more: list[str] = []  # further texts that must not appear


async def refusal(scene: Scene) -> Observation:
    """Check that the function does not start, fails at once and names the setting."""
    wanted = scene.options(BadSettings)
    log = LogPart(scene.emulator.log_file)
    await scene.emulator.retire(scene.variant.function)
    reply, seconds = await _get(scene, wanted.path, wanted.within_s)
    await asyncio.sleep(SETTLE_S)
    return Observation({
        "served": float(reply is not None and reply.status < 400),
        "named": float(log.count(wanted.names) > 0),
        "refused_after_s": seconds,
    })  # fmt: skip


async def secrets(scene: Scene) -> Observation:
    """Check that neither responses nor logs contain a password, whatever failed."""
    wanted = scene.options(Secrets)
    log = LogPart(scene.emulator.log_file)
    replies = [(await _get(scene, path, 12))[0] for path in wanted.requests]
    async with applied(*(build_fault(scene, spec) for spec in scene.experiment.fault)):
        await scene.emulator.retire(scene.variant.function)
        replies += [(await _get(scene, path, 12))[0] for path in wanted.requests]
    await asyncio.sleep(SETTLE_S)
    said = log.text() + "".join(_everything(reply) for reply in replies if reply is not None)
    secret = [unquote(urlsplit(url).password or "") for url in (scene.stage.postgres.url("x"), scene.stage.redis.url())]
    found = {text: said.count(text) for text in [*secret, *wanted.more] if text}
    return Observation({
        "secrets_said": float(sum(found.values())),
        "log_bytes": float(len(said)),
        "answers": float(sum(reply is not None for reply in replies)),
    })  # fmt: skip


async def defaults(scene: Scene) -> Observation:
    """Run the procedure `load`, and measure the slowest response too."""
    observed = await load(scene)
    observed.measures["slowest_s"] = max(observed.measures[f"{phase}.max_ms"] for phase in ("during", "after")) / 1000
    return observed


class Hostile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `hostile`: malicious requests; `body_bytes` makes a body of that size."""

    request: list[dict[str, Any]]
    healthy: str


async def hostile(scene: Scene) -> Observation:
    """Check that each request is rejected as the client's mistake, and that the function still works afterwards."""
    wanted = scene.options(Hostile)
    observed = Observation({"sent": float(len(wanted.request)), "blamed_on_us": 0.0})
    await _get(scene, wanted.healthy, 30)
    for template in wanted.request:
        body = template.get("body", "").encode() or b"x" * int(template.get("body_bytes", 0))
        status = await _send_raw(scene, template, body)
        if not 400 <= status < 500:
            observed.measures["blamed_on_us"] += 1
            observed.examples.append(f"{template['method']} {template['path']}: {status or 'no answer'}")
    reply, seconds = await _get(scene, wanted.healthy, 30)
    pids = await scene.environment_pids()
    observed.measures["healthy_after"] = float(reply is not None and reply.status == 200)
    observed.measures["healthy_after_s"] = seconds
    observed.measures["memory_peak_mb"] = max((_memory_peak_mb(pid) for pid in pids), default=math.nan)
    return observed


async def _send_raw(scene: Scene, template: dict[str, Any], body: bytes) -> int:
    """Return the status, or 0. A server may reject a request before it has read the body, which can break the connection."""
    client = scene.emulator.client()
    try:
        path = scene.variant.prefix + template["path"]
        reply = await client.request(
            template["method"], path, headers=template.get("headers", {}), body=body, timeout_s=30
        )
        return reply.status
    except NoAnswer:
        return 0
    finally:
        await client.close()


def _memory_peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


async def _get(scene: Scene, path: str, timeout_s: float) -> tuple[Reply | None, float]:
    client = scene.emulator.client()
    began_s = time.monotonic()
    try:
        return await client.request("GET", scene.variant.prefix + path, timeout_s=timeout_s), time.monotonic() - began_s
    except NoAnswer:
        return None, time.monotonic() - began_s
    finally:
        await client.close()


def _everything(reply: Reply) -> str:
    return f"{reply.headers} {reply.body.decode(errors='replace')}"
