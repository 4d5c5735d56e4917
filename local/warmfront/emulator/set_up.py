"""Runs the set-up invocations of a template, once for each data directory."""

import sys
import time
from collections.abc import Sequence

from warmfront.emulator.data_directory import DataDirectory
from warmfront.emulator.lambda_service.service import LambdaService, new_trace_id
from warmfront.emulator.lambda_service.types import ServiceError
from warmfront.emulator.options import StartError
from warmfront.emulator.template import Template

ERROR_CHARACTERS_MAX = 400


async def run_set_up(
    template: Template, service: LambdaService, data: DataDirectory | None, *, remote: Sequence[str] = ()
) -> None:
    """Invoke what the template names in Metadata.Warmfront.SetUp, in order, unless this data directory has had it.

    `remote`: servers on other machines, HOST:PORT; nobody's data there are touched, so the set-up is left out.
    Raises StartError when one of them fails: the data would not be what the functions expect.
    """
    if not template.set_up or (data is not None and data.set_up_done(template.set_up)):
        return
    if remote:
        where = " and ".join(remote)
        print(
            f"set-up     left out: {where} is not this machine; --seed-url runs it there", file=sys.stderr, flush=True
        )
        return
    began = time.monotonic()
    for call in template.set_up:
        print(f"set-up     {call.function} {call.event.decode()}", file=sys.stderr, flush=True)
        try:
            result = await service.invoke(call.function, call.event, trace_id=new_trace_id(sampled=False))
        except ServiceError as error:
            raise StartError(f"set-up: {call.function}: {error}; --no-setup skips the set-up") from None
        if result.function_error:
            response = result.payload.decode(errors="replace")[:ERROR_CHARACTERS_MAX]
            raise StartError(f"set-up: {call.function} failed: {response}; --no-setup skips the set-up")
    kept = f"; kept in {data.path}, so this runs once" if data is not None else ""
    print(f"set-up     done in {time.monotonic() - began:.1f} s{kept}", file=sys.stderr, flush=True)
    if data is not None:
        data.note_set_up(template.set_up)
