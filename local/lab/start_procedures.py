"""The procedures that judge how a function starts and what it says: bad settings, library defaults, secrets in logs."""

import asyncio
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from local.lab.faults import applied
from local.lab.http_client import NoAnswer, Reply
from local.lab.load_procedures import load
from local.lab.scene import LogPart, Observation, Scene, build_fault


class BadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Procedure `refusal`: the first request to a function whose settings are wrong."""

    path: str
    names: str  # what its log must name
    within_s: float = 20.0


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Procedure `secrets`: requests while everything fails, then a search of all that was said for what is secret."""

    requests: list[str]
    more: list[str] = []  # further texts that must not appear


async def refusal(scene: Scene) -> Observation:
    """It must not start, say so at once and name the setting."""
    wanted = scene.options(BadSettings)
    log = LogPart(scene.emulator.log_file)
    await scene.emulator.retire(scene.variant.function)
    reply, seconds = await _get(scene, wanted.path, wanted.within_s)
    return Observation({
        "served": float(reply is not None and reply.status < 400),
        "named": float(log.count(wanted.names) > 0),
        "refused_after_s": seconds,
    })  # fmt: skip


async def secrets(scene: Scene) -> Observation:
    """Neither answers nor logs hold a password, whatever has failed meanwhile."""
    wanted = scene.options(Secrets)
    log = LogPart(scene.emulator.log_file)
    replies = [(await _get(scene, path, 12))[0] for path in wanted.requests]
    async with applied(*(build_fault(scene, spec) for spec in scene.experiment.fault)):
        await scene.emulator.retire(scene.variant.function)
        replies += [(await _get(scene, path, 12))[0] for path in wanted.requests]
    said = log.text() + "".join(_everything(reply) for reply in replies if reply is not None)
    secret = [unquote(urlsplit(url).password or "") for url in (scene.stage.postgres.url("x"), scene.stage.redis.url())]
    found = {text: said.count(text) for text in [*secret, *wanted.more] if text}
    return Observation({
        "secrets_said": float(sum(found.values())),
        "log_bytes": float(len(said)),
        "answers": float(sum(reply is not None for reply in replies)),
    })  # fmt: skip


async def defaults(scene: Scene) -> Observation:
    """Under load like any other, and the slowest answer besides."""
    observed = await load(scene)
    observed.measures["slowest_s"] = max(observed.measures[f"{phase}.max_ms"] for phase in ("during", "after")) / 1000
    return observed


async def doctor(scene: Scene) -> Observation:
    """`warmfront doctor` on a template with mistakes planted in it, and on the one under test."""
    wanted = scene.options(DoctorOptions)
    folder = Path(__file__).parent
    observed = Observation()
    for name, template in (("found", folder / wanted.bad), ("false_alarms", scene.emulator.settings.template)):
        process = await asyncio.create_subprocess_exec(
            "python", "-m", "local.cli", "doctor", "--template", str(template),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        observed.measures[name] = float(output.decode(errors="replace").count(wanted.mark))
    return observed


class DoctorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Procedure `doctor`."""

    bad: str
    mark: str


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
