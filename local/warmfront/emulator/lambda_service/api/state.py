"""What the control surface shows of a function. Changes nothing."""

from warmfront.emulator.lambda_service.functions.function import Function


def function_state(function: Function) -> dict[str, object]:
    """Its environments and counters."""
    counters, snapshot = function.counters, function.fleet.snapshot
    return {
        "start": function.plan.way.value,
        "snapshot": snapshot.describe() if snapshot is not None else None,
        "environments": [
            {
                "id": environment.id,
                "pid": environment.pid,
                "pids": environment.pids,
                "start": environment.way.value,
                "phase": environment.phase.value,
                "invocations": environment.invocations,
                "init_duration_ms": environment.init_duration_ms,
            }
            for environment in function.environments.values()
        ],
        "cold_starts": counters.cold_starts,
        "invocations": counters.invocations,
        "throttles": counters.throttles,
        "errors": counters.errors,
        "exited_cpu_s": function.fleet.exited_cpu_s,
    }
