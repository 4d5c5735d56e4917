"""The execution environments of one function: how each is started, logged and given up."""

import random
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.environments.phases import EnvironmentHost
from warmfront.emulator.lambda_service.environments.process_group import Launch
from warmfront.emulator.lambda_service.environments.snapshot import Snapshot
from warmfront.emulator.lambda_service.environments.start_modes import (
    LONG_INIT_LIMIT_S,
    RESTORE_LIMIT_S,
    StartPlan,
    Way,
)
from warmfront.emulator.lambda_service.environments.starter import InitFailure, Starter, read_milestones
from warmfront.emulator.lambda_service.functions.shared_state import Workplace
from warmfront.emulator.lambda_service.logs.function_log import FunctionLog
from warmfront.emulator.lambda_service.logs.sinks import without_hang_up
from warmfront.emulator.template import FunctionConfig

_MB = 1024 * 1024


class Fleet:
    """Environments by id, and the snapshot some of them are restored from."""

    def __init__(
        self,
        config: FunctionConfig,
        launch: Launch,
        workplace: Workplace,
        log: FunctionLog,
        host: EnvironmentHost[Environment],
        *,
        plan: StartPlan,
        version: str,
        init_limit_s: float,
        debugged: bool = False,
    ) -> None:
        """`debugged`: environments are never stopped between invocations, and a debugger's memory is not counted."""
        self._debugged = debugged
        self.plan = plan
        self.environments: dict[str, Environment] = {}
        self.inits: deque[dict[str, object]] = deque(maxlen=workplace.max_inits_kept)
        self.snapshot: Snapshot | None = None
        self._exited_cpu_s = 0.0
        self._config = config
        self._workplace = workplace
        self._log = log
        self._host = host
        self._version = version
        self._init_limit_s = init_limit_s
        self.use(launch)

    def use(self, launch: Launch) -> None:
        """New environments start from `launch`."""
        self._launches: Mapping[Way, Launch] = {way: self._launch_for(launch, way) for way in Way}
        if self.plan.way is Way.SNAP_START:
            if self.snapshot is not None:
                self.snapshot.leave()
            self.snapshot = self._new_snapshot()

    def _launch_for(self, launch: Launch, way: Way) -> Launch:
        environ = {
            **launch.environ,
            "AWS_LAMBDA_INITIALIZATION_TYPE": way.initialization_type,
            "AWS_LAMBDA_FUNCTION_VERSION": self._version,
        }
        if way is Way.MANAGED:
            environ["AWS_LAMBDA_MAX_CONCURRENCY"] = str(self.plan.processes)
        elif way is Way.SNAP_START:  # docs: lambda/latest/dg/snapstart-monitoring.html
            environ.pop("AWS_LAMBDA_LOG_GROUP_NAME", None)
        return replace(launch, environ=environ)

    def _new_snapshot(self) -> Snapshot:
        return Snapshot(
            self._launches[Way.SNAP_START],
            self,
            self._workplace.guard,
            tmp=self._workplace.state_dir / "tmp" / f"snapshot-{random.getrandbits(128):032x}",
            limit_s=self.long_init_limit_s,
        )

    @property
    def long_init_limit_s(self) -> float:
        return max(LONG_INIT_LIMIT_S, self._config.timeout_s, self._init_limit_s)

    # -- environments --------------------------------------------------------------------------------------------------

    def new(self, way: Way, *, ahead: bool = False) -> Environment:
        environment_id = f"{random.getrandbits(128):032x}"
        tmp = self._workplace.state_dir / "tmp" / environment_id
        tmp.mkdir(parents=True)
        slots = self.plan.processes if way is Way.MANAGED else 1
        starter: Starter = self._launches[way]
        if way is Way.SNAP_START and self.snapshot is not None:
            starter = self.snapshot
        environment = Environment(
            environment_id,
            starter,
            self._host,
            way=way,
            log_stream=f"{datetime.now(UTC):%Y/%m/%d}/[{self._version}]{environment_id}",
            tmp=tmp,
            memory_limit_bytes=sys.maxsize if self._debugged else self._config.memory_mb * _MB * slots,
            freezer=None if way is Way.MANAGED or self._debugged else self._workplace.freezer,
            guard=self._workplace.guard,
            slots=slots,
        )
        environment.ahead = ahead or way is Way.MANAGED
        self.environments[environment_id] = environment
        return environment

    async def start(self, environment: Environment) -> InitFailure | None:
        """Init or restore, with its lines in the log; None means ready."""
        if environment.way is Way.SNAP_START:
            return await self._restore(environment)
        self._log.init_start(environment.log_stream, environment.way)
        limit_s = self.long_init_limit_s if environment.ahead else self._init_limit_s
        failure = await self.start_inside(environment, limit_s)
        if failure is not None:
            self._log.init_failed(failure, environment.way, phase="init")
        else:
            self._log.init_done(environment.init_duration_ms or 0.0, environment.way)
        return failure

    async def _restore(self, environment: Environment) -> InitFailure | None:
        self._log.restore_start(environment.log_stream)
        failure = await self.start_inside(environment, RESTORE_LIMIT_S)
        if failure is not None:
            self._log.restore_failed(failure)
        else:
            self._log.restore_done(environment.init_duration_ms or 0.0)
        return failure

    async def start_inside(self, environment: Environment, limit_s: float) -> InitFailure | None:
        """The same without lines in the log: where an init is part of an invocation, they are only written when it fails."""
        observer, name = self._workplace.observer, self._config.logical_id
        if observer is None:
            return await environment.start(limit_s=limit_s)
        observer.init_begun(name, environment)
        failed = True
        try:
            failure = await environment.start(limit_s=limit_s)
            failed = failure is not None
            return failure
        finally:
            observer.init_ended(name, environment, failed=failed)

    async def snapshot_failed(self) -> bool:
        """Wait until environments can be restored; True when they never can."""
        return self.snapshot is not None and await self.snapshot.taken() is not None

    def drop(self, environment: Environment) -> bool:
        """Forget an environment whose process is gone; False when that was done before."""
        if self.environments.pop(environment.id, None) is None:
            return False
        self._exited_cpu_s += environment.exited_cpu_s
        environment.close()
        return True

    async def close(self) -> None:
        """All environments are gone."""
        if self.snapshot is not None:
            await self.snapshot.close()

    # -- what others ask -----------------------------------------------------------------------------------------------

    @property
    def exited_cpu_s(self) -> float:
        """CPU time of all processes of this function that have ended."""
        return self._exited_cpu_s + sum(each.exited_cpu_s for each in self.environments.values())

    def keep_init(self, environment: Environment) -> None:
        self.inits.append(describe_init(environment))

    def describe_snapshot(self) -> dict[str, object] | None:
        """The snapshot's own init, for the cold-start breakdown."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        times = {"pid": snapshot.pid, "spawned_ns": snapshot.spawned_ns, "ready_ns": snapshot.ready_ns}
        return {**times, **read_milestones(snapshot.milestones_path)}

    # -- what the snapshot tells (SnapshotHost) ------------------------------------------------------------------------

    def snapshot_began(self) -> None:
        self._log.init_start(
            f"{datetime.now(UTC):%Y/%m/%d}/[{self._version}]{random.getrandbits(128):032x}", Way.SNAP_START
        )

    def snapshot_output(self, chunk: bytes) -> None:
        self._log.emit(without_hang_up(chunk))

    def snapshot_done(self, failure: InitFailure | None, init_ms: float, open_then: list[str]) -> None:
        name, note = self._config.logical_id, self._workplace.note
        if failure is not None:
            self._log.init_failed(failure, Way.SNAP_START, phase="init")
            note(
                f"{name}: no snapshot could be taken ({failure.error_type or failure.status}); its version is in state Failed"
            )
            return
        self._log.init_done(init_ms, Way.SNAP_START)
        for each in open_then:
            if each.startswith("thread"):
                note(
                    f"WARNING: {name}: {each} runs when the snapshot is taken; it does not run in restored environments here"
                )
            else:
                note(
                    f"WARNING: {name}: {each} is open when the snapshot is taken; after a restore it is broken."
                    " Close it in a hook (register_before_snapshot) and open it after the restore"
                )


def describe_init(environment: Environment) -> dict[str, object]:
    """One init or restore and the first invocation after it: nanoseconds of CLOCK_MONOTONIC."""
    times: dict[str, object] = {
        "environment": environment.id,
        "start": environment.way.value,
        "spawned_ns": environment.spawned_ns,
        "ready_ns": environment.ready_ns,
        "first_invoke_ns": environment.first_invoke_ns,
        "first_response_ns": environment.first_response_ns,
    }
    if environment.way is Way.SNAP_START:
        times["restore_began_ns"] = environment.spawned_ns
    return {**times, **environment.milestones()}
