"""The Lambda service of one template: its functions by name, the account's concurrency, start-up and shutdown."""

import asyncio
import random
import shutil
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from warmfront.emulator.lambda_service.api.names import LATEST, PUBLISHED, split_name, version_of
from warmfront.emulator.lambda_service.api.state import function_state
from warmfront.emulator.lambda_service.environments.idle_reaper import Freezer
from warmfront.emulator.lambda_service.environments.launches import Launcher, Surroundings, not_runnable
from warmfront.emulator.lambda_service.environments.mount_namespace import (
    MountNamespace,
    MountsRefused,
)
from warmfront.emulator.lambda_service.environments.process_group import Guard, Launch
from warmfront.emulator.lambda_service.environments.start_modes import StartPlan, Way, plan_start
from warmfront.emulator.lambda_service.functions.account import AccountLimit
from warmfront.emulator.lambda_service.functions.async_invoke import AsyncInvoker, QueuedEvent
from warmfront.emulator.lambda_service.functions.destinations import Destinations
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.functions.invocation_observer import Observer
from warmfront.emulator.lambda_service.functions.managed import ManagedFunction
from warmfront.emulator.lambda_service.functions.shared_state import Workplace
from warmfront.emulator.lambda_service.invocation import Invocation, new_request_id
from warmfront.emulator.lambda_service.service_options import ServiceOptions
from warmfront.emulator.lambda_service.types import FunctionNotFound, InvocationResult, NotRunnable
from warmfront.emulator.template import ACCOUNT_ID, EventInvokeConfig, FunctionConfig, Template

REAP_EVERY_S = 10.0
WARM_AT_ONCE = 8


class Target(NamedTuple):
    """What a function's name, with or without a qualifier, stands for."""

    function: Function
    arn: str
    version: str


class LambdaService:
    """Runs the functions of a template. Use as an async context manager; leaving it ends every process it started."""

    def __init__(self, template: Template, options: ServiceOptions) -> None:
        self.template = template
        self.options = options
        self.functions: dict[str, Function] = {}
        """By logical id; the published version where that starts otherwise than $LATEST."""
        self.latest: dict[str, Function] = {}
        """By logical id: $LATEST of those."""
        self.not_runnable: dict[str, str] = {}
        self.warnings: list[str] = []
        self._targets: dict[str, Target] = {}
        """By every name they can be invoked by: NAME and NAME:QUALIFIER."""
        self._freezer = Freezer() if options.freeze else None
        self._reaper: asyncio.TimerHandle | None = None
        self._async = AsyncInvoker(
            self._attempt, Destinations(self._submit_record, options.aws, options.note), time_scale=options.time_scale
        )
        # Where nobody wants segments, tracers send them to this address: a full socket buffer drops them without cost.
        self._xray = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._xray.bind(("127.0.0.1", 0))
        self._sampler = options.sampler
        self._launcher: Launcher | None = None
        self._namespace: MountNamespace | None = None

    async def __aenter__(self) -> "LambdaService":
        try:
            self._lay_out()
        except BaseException:
            self._xray.close()
            raise
        self._schedule_reaper()
        return self

    def _lay_out(self) -> None:
        """Make a Function of every function that this machine can run."""
        options = self.options
        xray_address = options.xray_address or f"127.0.0.1:{self._xray.getsockname()[1]}"
        surroundings = Surroundings(
            options.state_dir,
            options.region,
            options.credentials,
            options.environment,
            xray_address,
            options.native_client,
            options.node_client,
            self._enter_mounts(),
        )
        self._launcher = Launcher(surroundings)
        workplace = Workplace(
            options.sink,
            options.state_dir,
            options.region,
            self._freezer,
            Guard(options.on_spawn, options.on_gone),
            options.idle_s,
            options.shutdown_grace_s,
            options.init_limit_s,
            note=options.note,
            observer=options.observer,
        )
        unreserved = self._unreserved_limit()
        for logical_id, config in self.template.functions.items():
            reason = not_runnable(config, with_node=options.node_client is not None)
            if reason is not None:
                self.not_runnable[logical_id] = reason
                continue
            plan = self._plan(config)
            if plan.way is Way.MANAGED:  # docs: lambda/latest/dg/lambda-managed-instances.html
                config = replace(config, log_format="JSON")
            launch, warnings = self._launcher.launch(config, debug_port=options.debug.get(logical_id))
            self.warnings += [warning for warning in warnings if warning not in self.warnings]
            self._add(config, plan, launch, workplace, unreserved)

    def _enter_mounts(self) -> MountNamespace | None:
        """What gives functions folders as on Lambda; where this machine refuses, a warning says so once."""
        if self.options.mounts is None:
            return None
        try:
            self._namespace = self.options.mounts.finish()
        except MountsRefused as error:
            self.warnings.append(
                f"functions see this machine's folders: code is writable, and /tmp, /opt and /var/task are not as on Lambda ({error})"
            )
        return self._namespace

    def _add(
        self, config: FunctionConfig, plan: StartPlan, launch: Launch, workplace: Workplace, unreserved: AccountLimit
    ) -> None:
        """The function's one set of environments, or two where its published version starts otherwise than $LATEST."""
        logical_id = config.logical_id
        limit = unreserved if config.reserved_concurrency is None else None
        debugged = logical_id in self.options.debug
        two = self.options.start == "template" and plan.way in (Way.SNAP_START, Way.PROVISIONED)
        if two and config.reserved_concurrency is not None:
            limit = AccountLimit(config.reserved_concurrency, "ReservedFunctionConcurrentInvocationLimitExceeded")
            config = replace(config, reserved_concurrency=None)
        version = PUBLISHED if two else LATEST
        kind = ManagedFunction if plan.way is Way.MANAGED else Function
        function = kind(config, launch, workplace, limit, plan=plan, version=version, debugged=debugged)
        latest = Function(config, launch, workplace, limit, debugged=debugged) if two else function
        self.functions[logical_id] = function
        if two:
            self.latest[logical_id] = latest
        arn = self.arn(config)
        for name in (config.function_name, logical_id):
            self._targets[name] = Target(latest, arn, LATEST)
            self._targets[f"{name}:{LATEST}"] = Target(latest, f"{arn}:{LATEST}", LATEST)
            for qualifier in (config.auto_publish_alias, PUBLISHED) if config.auto_publish_alias is not None else ():
                self._targets[f"{name}:{qualifier}"] = Target(function, f"{arn}:{qualifier}", PUBLISHED)

    def _plan(self, config: FunctionConfig) -> StartPlan:
        options = self.options
        if config.logical_id in options.debug:
            return StartPlan()  # its one environment waits for somebody
        plan = plan_start(config, options.start, provisioned=options.provisioned, processes=options.processes)
        published = config.auto_publish_alias is not None
        if options.start == "template" and plan.way in (Way.SNAP_START, Way.PROVISIONED) and not published:
            self.warnings.append(
                f"{config.logical_id}: {plan.way} belongs to published versions, and it has none: add AutoPublishAlias"
            )
            return StartPlan()
        return plan

    def _unreserved_limit(self) -> AccountLimit:
        """What the account has left for functions without a reservation (docs: lambda/latest/dg/configuration-concurrency.html)."""
        reserved = sum(config.reserved_concurrency or 0 for config in self.template.functions.values())
        left = self.options.account_concurrency - reserved
        if left < 0:
            self.warnings.append(
                f"the functions reserve {reserved} concurrent invocations, the account has {self.options.account_concurrency}"
            )
        return AccountLimit(max(left, 0))

    async def __aexit__(self, *exc: object) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
        if self._freezer is not None:
            self._freezer.close()
        if self._async.pending:
            self.options.note(f"{self._async.pending} asynchronous invocations were not finished and are forgotten")
        await self._async.close()
        await asyncio.gather(*(function.close() for function in self._all()))
        self.options.sink.flush()
        self._xray.close()
        if self._namespace is not None:
            self._namespace.close()
        for name in ("tmp", "stage"):
            shutil.rmtree(self.options.state_dir / name, ignore_errors=True)

    # -- functions -----------------------------------------------------------------------------------------------------

    def arn(self, config: FunctionConfig) -> str:
        return f"arn:aws:lambda:{self.options.region}:{ACCOUNT_ID}:function:{config.function_name}"

    def config(self, name: str, qualifier: str | None = None) -> FunctionConfig:
        """A function of the template, runnable or not. Raises FunctionNotFound."""
        config = self.template.function_named(name)
        if config is None or (qualifier is not None and version_of(config, qualifier) is None):
            suffix = f":{qualifier}" if qualifier is not None else ""
            name = config.function_name if config is not None else name
            raise FunctionNotFound(
                f"Function not found: arn:aws:lambda:{self.options.region}:{ACCOUNT_ID}:function:{name}{suffix}"
            )
        return config

    def find(self, name: str) -> Function:
        """By logical id or function name (NAME:$LATEST for that set of two). Raises FunctionNotFound and NotRunnable."""
        target = self._targets.get(name)
        if target is None:
            config = self.config(name)
            raise NotRunnable(f"{config.logical_id} cannot run here: {self.not_runnable[config.logical_id]}")
        return target.function if ":" in name else self.functions[target.function.config.logical_id]

    def alias(self, logical_id: str) -> str | None:
        """What the template's own events invoke the function by: SAM connects them to the alias it publishes."""
        return self.template.functions[logical_id].auto_publish_alias

    def observe(self, observer: Observer | None) -> None:
        """From now on this one is told of invocations, or nobody; of inits, whom the options name."""
        for function in self._all():
            function.observe(observer)

    def _all(self) -> list[Function]:
        return [*self.functions.values(), *self.latest.values()]

    def _target(self, name: str, qualifier: str | None) -> Target:
        """For a name that stands for nothing. Raises FunctionNotFound and NotRunnable."""
        self.config(name, qualifier)
        self.find(name)
        raise FunctionNotFound(f"Function not found: {name}")

    # -- invocations ---------------------------------------------------------------------------------------------------

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        trace_id: str,
        client_context: str | None = None,
        request_id: str | None = None,
        qualifier: str | None = None,
        tail: bool = False,
    ) -> InvocationResult:
        """One synchronous invocation, from admission to its result. Raises FunctionNotFound, NotRunnable and Throttled."""
        name = function if qualifier is None else f"{function}:{qualifier}"
        found, arn, version = self._targets.get(name) or self._target(function, qualifier)
        if self._sampler is not None and found.config.tracing:
            trace_id = self._sampler.header(trace_id)
        invocation = Invocation(
            event,
            request_id=request_id or new_request_id(),
            trace_id=trace_id,
            arn=arn,
            version=version,
            client_context=client_context,
            tail=tail,
        )
        return await found.invoke(invocation)

    def submit(self, function: str, event: bytes, *, qualifier: str | None = None) -> str:
        """Queue one asynchronous invocation; returns its request id. Raises FunctionNotFound and NotRunnable."""
        self.find(function)
        config = self.config(function, qualifier)
        request_id = new_request_id()
        queued = QueuedEvent(
            config.logical_id,
            f"{self.arn(config)}:{qualifier or LATEST}",
            event,
            request_id,
            config.event_invoke_config or EventInvokeConfig(),
            config.dead_letter_arn,
            never=config.reserved_concurrency == 0,
        )
        self._async.submit(queued)
        return request_id

    async def _attempt(self, queued: QueuedEvent) -> InvocationResult:
        qualifier = queued.function_arn.rpartition(":")[2]
        tracing = self.functions[queued.function].config.tracing
        return await self.invoke(
            queued.function,
            queued.event,
            trace_id=new_trace_id(sampled=tracing),
            request_id=queued.request_id,
            qualifier=None if qualifier == LATEST else qualifier,
        )

    def _submit_record(self, name: str, event: bytes) -> None:
        function, qualifier = split_name(name)
        self.submit(function, event, qualifier=qualifier)

    # -- upkeep --------------------------------------------------------------------------------------------------------

    async def reload(self, logical_ids: Iterable[str]) -> None:
        """Lay the code of these functions out again; their next environments start from it. Raises StagingError."""
        assert self._launcher is not None
        for logical_id in logical_ids:
            config = self.functions[logical_id].config
            launch, _ = self._launcher.launch(config, debug_port=self.options.debug.get(logical_id))
            for function in (self.functions[logical_id], self.latest.get(logical_id)):
                if function is not None:
                    await function.reload(launch)
                    await function.prepare()

    async def prepare(self) -> None:
        """Take the snapshots and start the environments that the functions have ahead of invocations, a few at a time."""
        gate = asyncio.Semaphore(WARM_AT_ONCE)

        async def one(function: Function) -> None:
            async with gate:
                await function.prepare()

        await asyncio.gather(*(one(function) for function in self.functions.values()))

    async def warm(self, count: int) -> None:
        """Start `count` environments of every function ahead of its first invocation, a few at a time."""
        gate = asyncio.Semaphore(WARM_AT_ONCE)

        async def one(function: Function) -> None:
            async with gate:
                await function.start(1)

        await asyncio.gather(*(one(function) for function in self.functions.values() for _ in range(count)))

    def watched(self) -> dict[str, list[Path]]:
        """Logical id -> the files and folders its code comes from."""
        assert self._launcher is not None
        return {name: self._launcher.watched(function.config) for name, function in self.functions.items()}

    def _schedule_reaper(self) -> None:
        self._reaper = asyncio.get_running_loop().call_later(REAP_EVERY_S, self._reap)

    def _reap(self) -> None:
        now_s = time.monotonic()
        for function in self._all():
            function.reap_idle(now_s)
        self._schedule_reaper()

    def state(self) -> dict[str, object]:
        """What the control surface shows: every function's environments and counters."""
        found: dict[str, object] = {
            logical_id: function_state(function) for logical_id, function in self.functions.items()
        }
        for logical_id, function in self.latest.items():
            if function.counters.invocations or function.environments:
                found[f"{logical_id}:{LATEST}"] = function_state(function)
        return found


def new_trace_id(*, sampled: bool) -> str:
    """A value of the X-Amzn-Trace-Id header (docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader)."""
    return f"Root=1-{int(time.time()):08x}-{random.getrandbits(96):024x};Parent={random.getrandbits(64):016x};Sampled={int(sampled)}"
