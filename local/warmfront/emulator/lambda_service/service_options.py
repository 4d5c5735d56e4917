"""The choices of the Lambda service that are not in the template."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warmfront.emulator.lambda_service.aws_clients import AwsClients
from warmfront.emulator.lambda_service.environments.mount_namespace import MountsInTheMaking
from warmfront.emulator.lambda_service.environments.node_client import NodeClient
from warmfront.emulator.lambda_service.environments.start_modes import StartChoice
from warmfront.emulator.lambda_service.environments.variables import fake_credentials
from warmfront.emulator.lambda_service.functions.invocation_observer import Observer
from warmfront.emulator.lambda_service.functions.shared_state import INIT_LIMIT_S
from warmfront.emulator.lambda_service.logs.sinks import LogSink
from warmfront.emulator.lambda_service.trace_header import Sampler
from warmfront.emulator.template import FunctionConfig

ACCOUNT_CONCURRENCY = 1000
"""docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: default concurrent executions of an account."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The emulator's choices that are not in the template."""

    state_dir: Path
    sink: LogSink
    region: str = "us-east-1"
    freeze: bool = True
    native_client: bool = False
    """Environments speak to the Runtime API through the official client's native module, not through our equivalent."""
    node_client: NodeClient | None = None
    """What runs functions of Node; None: they do not run."""
    idle_s: float = 600.0
    shutdown_grace_s: float = 0.5
    init_limit_s: float = INIT_LIMIT_S
    account_concurrency: int = ACCOUNT_CONCURRENCY
    time_scale: float = 1.0
    """How many times faster than on AWS asynchronous invocations are tried again, and grow old."""
    debug: Mapping[str, int] = field(default_factory=dict)
    """Logical id -> port on which its one environment waits for a debugger."""
    environment: Callable[[FunctionConfig], Mapping[str, str]] = field(default=lambda config: config.environment)
    """The template's variables of a function, with local addresses in place."""
    credentials: Callable[[], Mapping[str, str]] = fake_credentials
    """Credentials of handlers, asked for whenever an environment starts."""
    aws: AwsClients | None = None
    """For destinations, dead letters and queues; None: there is no AWS here."""
    note: Callable[[str], None] = field(default=lambda _: None)
    """Takes one line that somebody at the terminal should see."""
    start: StartChoice = "template"
    """How environments start; `template`: as each function asks for."""
    provisioned: int = 1
    """Environments started ahead, with start `provisioned`."""
    processes: int = 4
    """Of one environment, with start `managed`."""
    observer: Observer | None = None
    xray_address: str | None = None
    """Where tracers of handlers send their segments; None: to a socket that nobody reads."""
    sampler: Sampler | None = None
    """Which invocations of functions with active tracing are traced where the caller has not decided; None: as the header says."""
    mounts: MountsInTheMaking | None = None
    """Gives functions /var/task, /opt and /tmp as on Lambda; None: they see this machine's folders."""
    on_spawn: Callable[[int], None] = field(default=lambda _: None)
    on_gone: Callable[[int], None] = field(default=lambda _: None)
