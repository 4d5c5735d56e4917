"""The Lambda service of one template: its functions by name, the account's concurrency, start-up and shutdown. Knows no HTTP."""

import asyncio
import random
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.lambda_service import staging
from local.lambda_service.freezer import Freezer
from local.lambda_service.function import INIT_LIMIT_S, Function, Workplace
from local.lambda_service.invocation import Invocation
from local.lambda_service.logs import LogSink
from local.lambda_service.sandbox import Guard, Launch
from local.lambda_service.types import FunctionNotFound, InvocationResult
from local.lambda_service.variables import fake_credentials, lambda_variables
from local.template import FunctionConfig, Template

ACCOUNT_ID = "123456789012"
ACCOUNT_CONCURRENCY = 1000
"""docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: default concurrent executions of an account."""
REAP_EVERY_S = 10.0
BOOTSTRAP = Path(__file__).with_name("bootstrap.py")


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The emulator's choices that are not in the template."""

    state_dir: Path
    sink: LogSink
    region: str = "us-east-1"
    freeze: bool = True
    idle_s: float = 600.0
    shutdown_grace_s: float = 0.5
    init_limit_s: float = INIT_LIMIT_S
    account_concurrency: int = ACCOUNT_CONCURRENCY
    environment: Callable[[FunctionConfig], Mapping[str, str]] = field(default=lambda config: config.environment)
    """The template's variables of a function, with local addresses in place."""
    credentials: Mapping[str, str] = field(default_factory=fake_credentials)
    on_spawn: Callable[[int], None] = field(default=lambda _: None)
    on_gone: Callable[[int], None] = field(default=lambda _: None)


class AccountLimit:
    """Concurrent invocations over all functions of the account."""

    def __init__(self, concurrency_max: int) -> None:
        self._max = concurrency_max
        self._taken = 0

    def take(self) -> bool:
        if self._taken >= self._max:
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        self._taken -= 1


class LambdaService:
    """Runs the functions of a template. Use as an async context manager; leaving it ends every process it started."""

    def __init__(self, template: Template, options: ServiceOptions) -> None:
        self.template = template
        self.options = options
        self.functions: dict[str, Function] = {}
        """By logical id."""
        self.not_runnable: dict[str, str] = {}
        self.warnings: list[str] = []
        self._by_name: dict[str, Function] = {}
        self._arns: dict[str, str] = {}
        self._freezer = Freezer() if options.freeze else None
        self._reaper: asyncio.TimerHandle | None = None
        # Tracers send segments to this address; nobody reads it yet, and a full socket buffer drops them without cost.
        self._xray = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._xray.bind(("127.0.0.1", 0))

    async def __aenter__(self) -> "LambdaService":
        runtime_dir = staging.stage_runtime(self.options.state_dir / "runtime")
        unreserved = self._unreserved_limit()
        workplace = Workplace(
            self.options.sink,
            self.options.state_dir,
            self.options.region,
            self._freezer,
            Guard(self.options.on_spawn, self.options.on_gone),
            self.options.idle_s,
            self.options.shutdown_grace_s,
            self.options.init_limit_s,
        )
        for logical_id, config in self.template.functions.items():
            reason = config.not_runnable or _runtime_missing(config)
            if reason is not None:
                self.not_runnable[logical_id] = reason
                continue
            limit = unreserved if config.reserved_concurrency is None else None
            function = Function(config, self._launch(config, runtime_dir), workplace, limit)
            self.functions[logical_id] = function
            for name in (config.function_name, logical_id):
                self._by_name[name] = function
                self._arns[name] = self.arn(config)
        self._schedule_reaper()
        return self

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
        await asyncio.gather(*(function.close() for function in self.functions.values()))
        self.options.sink.flush()
        self._xray.close()
        shutil.rmtree(self.options.state_dir / "tmp", ignore_errors=True)

    def arn(self, config: FunctionConfig) -> str:
        return f"arn:aws:lambda:{self.options.region}:{ACCOUNT_ID}:function:{config.function_name}"

    def find(self, name: str) -> Function:
        """By logical id or function name. Raises FunctionNotFound, naming what there is."""
        function = self._by_name.get(name)
        if function is None:
            raise FunctionNotFound(
                f"Function not found: arn:aws:lambda:{self.options.region}:{ACCOUNT_ID}:function:{name}"
            )
        return function

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
        """One synchronous invocation, from admission to its result. Raises FunctionNotFound and Throttled."""
        found = self._by_name.get(function) or self.find(function)
        arn = self._arns[function]
        invocation = Invocation(
            event,
            request_id=request_id or new_request_id(),
            trace_id=trace_id,
            arn=arn if qualifier is None else f"{arn}:{qualifier}",
            version="$LATEST",
            client_context=client_context,
            tail=tail,
        )
        return await found.invoke(invocation)

    def _schedule_reaper(self) -> None:
        self._reaper = asyncio.get_running_loop().call_later(REAP_EVERY_S, self._reap)

    def _reap(self) -> None:
        now_s = time.monotonic()
        for function in self.functions.values():
            function.reap_idle(now_s)
        self._schedule_reaper()

    def _launch(self, config: FunctionConfig, runtime_dir: Path) -> Launch:
        stage = self.options.state_dir / "stage"
        root, warnings = staging.stage_code(
            stage / "functions" / config.logical_id,
            config.code_path,
            config.parent_package,
            with_requirements=not config.built,
        )
        layers = []
        for layer in config.layers:
            if layer.content_path is None:
                warnings.append(
                    f"{config.logical_id}: layer {layer.name} is not in this template, so its packages are missing here"
                )
                continue
            built = layer.build_method is None
            path, missing = staging.stage_layer(
                stage / "layers" / layer.name, layer.content_path, layer.parent_packages, built=built
            )
            layers.append(path)
            warnings += missing
        self.warnings += warnings
        version = config.runtime.removeprefix("python")
        paths = [
            root,
            *(
                p
                for layer in reversed(layers)
                for p in (layer / f"python/lib/python{version}/site-packages", layer / "python")
            ),
        ]
        xray_address = f"127.0.0.1:{self._xray.getsockname()[1]}"
        variables = lambda_variables(
            config,
            region=self.options.region,
            task_root=root,
            runtime_dir=runtime_dir,
            layers=tuple(layers),
            xray_address=xray_address,
            credentials=self.options.credentials,
        )
        variables |= self.options.environment(config)
        variables["WARMFRONT_PATHS"] = ":".join(str(path) for path in paths if path.is_dir())
        return Launch(staging.python_command(BOOTSTRAP), variables, root)

    def state(self) -> dict[str, object]:
        """What the control surface shows: every function's environments and counters."""
        return {logical_id: _function_state(function) for logical_id, function in self.functions.items()}


def _function_state(function: Function) -> dict[str, object]:
    counters = function.counters
    return {
        "environments": [
            {
                "id": environment.id,
                "pid": environment.pid,
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
        "exited_cpu_s": function.exited_cpu_s,
    }


def _runtime_missing(config: FunctionConfig) -> str | None:
    if config.runtime.startswith("python3."):
        return None
    return f"runtime {config.runtime} is not on this machine"


def new_request_id() -> str:
    """A version 4 UUID; not from os.urandom, because nothing secret hangs on it and it is made for every invocation."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def new_trace_id(*, sampled: bool) -> str:
    """A value of the X-Amzn-Trace-Id header (docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader)."""
    return f"Root=1-{int(time.time()):08x}-{random.getrandbits(96):024x};Parent={random.getrandbits(64):016x};Sampled={int(sampled)}"
