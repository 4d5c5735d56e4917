"""One running emulator: backing services, the Lambda service and a gateway per API, composed. Decides nothing itself."""

import asyncio
import contextlib
import functools
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.backing.watcher import get_watcher
from warmfront.emulator.gateway.app import GatewayApp, GatewayOptions, create_apps
from warmfront.emulator.gateway.backlog import Backlog
from warmfront.emulator.gateway.http_protocol import OneWriteProtocol
from warmfront.emulator.lambda_service.api.control import control_routes
from warmfront.emulator.lambda_service.api.invoke_api import invoke_routes
from warmfront.emulator.lambda_service.aws_clients import AwsClients
from warmfront.emulator.lambda_service.environments.node_client import find_node_client
from warmfront.emulator.lambda_service.environments.reload import SourceWatch
from warmfront.emulator.lambda_service.environments.staging import StagingError
from warmfront.emulator.lambda_service.environments.start_modes import StartChoice
from warmfront.emulator.lambda_service.environments.variables import fake_credentials, host_credentials
from warmfront.emulator.lambda_service.event_sources.sources import EventSources, SourceError, create_resources
from warmfront.emulator.lambda_service.logs.sinks import LogSink, as_json, for_people
from warmfront.emulator.lambda_service.service import ACCOUNT_CONCURRENCY, LambdaService, ServiceOptions
from warmfront.emulator.lambda_service.trace_header import Sampler
from warmfront.emulator.observe.access_log import AccessLog
from warmfront.emulator.observe.dashboard import dashboard_routes
from warmfront.emulator.observe.dashboard_guard import SameOriginOnly
from warmfront.emulator.observe.http_routes import observe_routes
from warmfront.emulator.observe.observatory import Observatory
from warmfront.emulator.observe.switch import Switch, switch_routes
from warmfront.emulator.template import FunctionConfig, SqsSource, Template, load_template, read_parameter_overrides

AWS_TYPES = (
    "AWS::DynamoDB::",
    "AWS::Events::",
    "AWS::Kinesis::",
    "AWS::S3::",
    "AWS::SNS::",
    "AWS::SQS::",
    "AWS::SSM::",
    "AWS::SecretsManager::",
    "AWS::Serverless::SimpleTable",
    "AWS::Serverless::StateMachine",
    "AWS::StepFunctions::",
)
"""A template with a resource of these types gets a local AWS unless the command line says otherwise."""
REGION = "us-east-1"


class StartError(Exception):
    """Why the emulator cannot start, in one line that names the fix."""


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """What the command line says."""

    template: Path = Path("template.yaml")
    parameters: Mapping[str, str] = field(default_factory=dict)
    built: bool = False
    host: str = "127.0.0.1"
    port: int = 3000
    freeze: bool = True
    native_client: bool = False
    node_client: Path | None = None
    """Folder with npm's aws-lambda-ric, which runs functions of Node."""
    idle_s: float = 600.0
    account_concurrency: int = ACCOUNT_CONCURRENCY
    time_scale: float = 1.0
    """How many times sooner than on AWS asynchronous invocations are tried again."""
    aws: Literal["auto", "local", "real", "none"] = "auto"
    """Which AWS handlers and event sources talk to; auto: a local one where the template needs it, else none."""
    event_sources: bool = True
    reload: bool = True
    warm: int = 0
    start: StartChoice = "template"
    provisioned: int = 1
    processes: int = 4
    debug: Sequence[str] = ()
    """NAME or NAME=PORT of functions that wait for a debugger."""
    log_file: Path | None = None
    log_format: Literal["auto", "text", "color", "json"] = "auto"
    env_vars: Path | None = None
    state_dir: Path | None = None
    token: str = field(default_factory=lambda: os.environ.get("WARMFRONT_TOKEN") or secrets.token_urlsafe(18))
    max_connections: int = 200
    enforce_auth: bool = False
    jwks: str | None = None
    trust_tokens: bool = False
    enforce_throttles: bool = False
    origin: Literal["auto", "system", "wheel"] = "auto"
    """Whose Postgres and Redis: the addresses of DATABASE_URL and REDIS_URL or the machine's before the wheels', or only one kind."""
    observe: bool = True
    """Metrics, traces and the access log."""
    metrics_hosts: Sequence[str] = ()
    """Names, besides addresses and localhost, under which metrics are scraped."""
    quiet_logs: bool = False
    """Keep function logs off the terminal."""


@dataclass(slots=True)
class Backing:
    """The Postgres, Redis and AWS that the template's functions ask for; None where none does."""

    postgres: Postgres | None = None
    redis: Redis | None = None
    aws: Aws | None = None

    def describe(self) -> dict[str, object]:
        parts = {"postgres": self.postgres, "redis": self.redis, "aws": self.aws}
        return {name: part.describe() for name, part in parts.items() if part is not None}

    def stop(self) -> None:
        for part in (self.aws, self.redis, self.postgres):
            if part is not None:
                part.stop()


@dataclass(slots=True)
class Emulator:
    """What runs, for the start-up table and for one-shot invocations."""

    template: Template
    service: LambdaService
    backing: Backing
    apps: list[GatewayApp]
    urls: list[str]
    warnings: list[str]

    @property
    def sources(self) -> list[str]:
        """A line for each event source that starts a function here."""
        found = [each for each in self.template.event_sources if each.function in self.service.functions]
        return [
            (f"queue {each.queue_name}" if isinstance(each, SqsSource) else each.expression)
            + f" -> {each.function}{'' if each.enabled else ' (disabled)'}"
            for each in found
        ]


def read_template(options: EmulatorOptions) -> Template:
    """The template with samconfig.toml's local parameters under those of the command line."""
    from_file = read_parameter_overrides(options.template.parent / "samconfig.toml")
    return load_template(options.template, parameters={**from_file, **options.parameters}, built=options.built)


@contextlib.asynccontextmanager
async def running(options: EmulatorOptions, *, gateway: bool = True) -> AsyncIterator[Emulator]:
    """Start everything, yield it, and end everything that was started. Raises StartError, TemplateError and BackingError."""
    template = read_template(options)
    async with contextlib.AsyncExitStack() as stack:
        sink = _sink(options)
        stack.callback(sink.close)
        sockets = _bind(options, len(template.apis)) if gateway else []
        for each in sockets:
            stack.callback(each.close)
        urls = [f"http://{options.host}:{each.getsockname()[1]}" for each in sockets]
        backing = Backing()
        stack.push_async_callback(asyncio.to_thread, backing.stop)
        try:
            observatory = _observatory(options, template, sink) if gateway else None
            if observatory is not None:
                stack.callback(observatory.close)
            service_options = await _prepare(options, template, backing, urls, sink, stack, observatory)
            async with LambdaService(template, service_options) as service:
                switch = None if observatory is None else Switch(observatory, service)
                internal = Starlette(
                    routes=[
                        *control_routes(service, token=options.token, describe=lambda: _describe(backing)),
                        *invoke_routes(service),
                        *_watching(switch, service, options, backing),
                    ],
                    middleware=[Middleware(SameOriginOnly, hosts=[options.host], metrics_hosts=options.metrics_hosts)],
                )
                if observatory is not None:
                    observatory.start(service)
                apps = create_apps(template, service, _gateway_options(options, internal, sink, observatory))
                if switch is not None:
                    switch.watch(apps)
                emulator = Emulator(template, service, backing, apps, urls, [*template.warnings, *service.warnings])
                async with _serving(apps or [internal], sockets), _attending(emulator, options, with_sources=gateway):
                    try:
                        yield emulator
                    finally:
                        if observatory is not None:
                            observatory.close()  # before the servers: whoever watches live would keep them waiting
        except (SourceError, StagingError) as error:
            raise StartError(str(error)) from None


async def _prepare(
    options: EmulatorOptions,
    template: Template,
    backing: Backing,
    urls: list[str],
    sink: LogSink,
    stack: contextlib.AsyncExitStack,
    observatory: Observatory | None,
) -> ServiceOptions:
    """Start what the functions ask for, and put together what the Lambda service has to know."""
    overrides = _read_env_vars(options.env_vars, template)
    debug = _debug_ports(options.debug, template)
    watcher = get_watcher()
    state_dir = _state_dir(options)
    if options.state_dir is None:
        watcher.remove_on_exit(state_dir)
        stack.callback(shutil.rmtree, state_dir, ignore_errors=True)
    await _start_backing(backing, template, options)
    aws = _aws_clients(options, backing)
    if aws is not None and backing.aws is not None:
        await create_resources(template, aws)

    def environment(config: FunctionConfig) -> Mapping[str, str]:
        return {**_local_variables(config, backing, urls), **overrides.get(config.logical_id, {})}

    return ServiceOptions(
        state_dir,
        sink,
        region=REGION,
        freeze=options.freeze,
        native_client=options.native_client,
        node_client=find_node_client(options.node_client) if options.node_client is not None else None,
        idle_s=options.idle_s,
        account_concurrency=options.account_concurrency,
        time_scale=options.time_scale,
        start=options.start,
        provisioned=options.provisioned,
        processes=options.processes,
        debug=debug,
        environment=environment,
        credentials=host_credentials() if options.aws == "real" else fake_credentials(),
        aws=aws,
        note=_noting(sink),
        observer=observatory,
        xray_address=observatory.segments.address if observatory is not None else None,
        sampler=Sampler() if observatory is not None else None,
        on_spawn=watcher.register,
        on_gone=watcher.unregister,
    )


@contextlib.asynccontextmanager
async def _attending(emulator: Emulator, options: EmulatorOptions, *, with_sources: bool) -> AsyncIterator[None]:
    """What goes on beside requests: event sources, hot reload, environments started ahead."""
    service = emulator.service
    async with contextlib.AsyncExitStack() as stack:
        if with_sources:  # a single invocation starts what it needs itself
            await service.prepare()
        if options.warm:
            await service.warm(options.warm)
        if options.reload and with_sources:
            stack.callback(_watch_sources(emulator, options).close)
        if options.event_sources and with_sources:
            await stack.enter_async_context(EventSources(service))
        yield


def _watch_sources(emulator: Emulator, options: EmulatorOptions) -> SourceWatch:
    service, note = emulator.service, emulator.service.options.note
    reloads: set[asyncio.Task[None]] = set()

    async def reload(logical_ids: set[str], name: str) -> None:
        if _TEMPLATE in logical_ids:
            note(f"{name} has changed: start again to serve what it says now")
        changed = sorted(logical_ids - {_TEMPLATE})
        if not changed:
            return
        try:
            await service.reload(changed)
        except StagingError as error:
            note(f"{error}; {', '.join(changed)} run their old code")
            return
        note(f"{name} has changed: new environments of {', '.join(changed)} take it")
        if options.warm:
            await service.warm(options.warm)

    def on_change(logical_ids: set[str], name: str) -> None:
        task = asyncio.get_running_loop().create_task(reload(logical_ids, name))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    sources = {**service.watched(), _TEMPLATE: [emulator.template.path.resolve()]}
    return SourceWatch(sources, on_change, note)


_TEMPLATE = ""
"""Stands for the template among the logical ids of what has changed."""


def _state_dir(options: EmulatorOptions) -> Path:
    """Absolute: processes begin elsewhere."""
    if options.state_dir is None:
        return Path(tempfile.mkdtemp(prefix="warmfront-"))
    try:
        options.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"--state-dir {options.state_dir}: {error.strerror}") from None
    return options.state_dir.resolve()


def _sink(options: EmulatorOptions) -> LogSink:
    if options.quiet_logs:
        return LogSink(None)
    render = {"json": as_json, "color": for_people}.get(options.log_format)
    if options.log_file is not None:
        try:
            return LogSink.to_file(options.log_file, render)
        except OSError as error:
            raise StartError(f"--log-file {options.log_file}: {error.strerror}") from None
    if options.log_format == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        render = for_people
    return LogSink.to_terminal(render)


def _debug_ports(wanted: Sequence[str], template: Template) -> dict[str, int]:
    """Logical id -> port, counted up from 5678, the port that editors offer for Python."""
    ports: dict[str, int] = {}
    for index, text in enumerate(wanted):
        name, _, port = text.partition("=")
        config = template.function_named(name)
        if config is None:
            raise StartError(f"--debug {name}: no such function; the template has {', '.join(template.functions)}")
        if port and not port.isdigit():
            raise StartError(f"--debug {text}: {port!r} is no port; write {name}=5678")
        ports[config.logical_id] = int(port) if port else 5678 + index
    return ports


def _needs_aws(template: Template) -> bool:
    uses = any(kind.startswith(AWS_TYPES) for kind in template.resource_types.values())
    return uses or any(isinstance(source, SqsSource) for source in template.event_sources)


def _aws_clients(options: EmulatorOptions, backing: Backing) -> AwsClients | None:
    if options.aws == "real":
        return AwsClients(region=REGION, endpoint_url=None, credentials=host_credentials())
    if backing.aws is None:
        return None
    return AwsClients(region=REGION, endpoint_url=backing.aws.endpoint_url, credentials=fake_credentials())


def _observatory(options: EmulatorOptions, template: Template, sink: LogSink) -> Observatory | None:
    if not options.observe:
        return None
    return Observatory(template, access=AccessLog(sink, as_objects=options.log_format == "json"))


def _watching(switch: Switch | None, service: LambdaService, options: EmulatorOptions, backing: Backing) -> list[Route]:
    """What shows the emulator at work."""
    if switch is None:
        return []
    observatory = switch.observatory
    page = dashboard_routes(observatory, service, token=options.token, describe=lambda: _describe(backing))
    return [*observe_routes(observatory), *switch_routes(switch, token=options.token), *page]


def _gateway_options(
    options: EmulatorOptions, internal: Starlette, sink: LogSink, observatory: Observatory | None
) -> GatewayOptions:
    return GatewayOptions(
        internal=internal,
        enforce_auth=options.enforce_auth,
        jwks=options.jwks,
        trust_tokens=options.trust_tokens,
        enforce_throttles=options.enforce_throttles,
        note=_noting(sink),
        observer=observatory,
    )


def _noting(sink: LogSink) -> Callable[[str], None]:
    """Lines that are nobody's log stand among the logs they explain."""
    return lambda line: sink.write("warmfront", f"warmfront: {line}\n".encode())


def _describe(backing: Backing) -> dict[str, object]:
    return {"emulator": {"pid": os.getpid()}, "backing": backing.describe()}


async def _start_backing(backing: Backing, template: Template, options: EmulatorOptions) -> None:
    """Start what any runnable function declares or the template holds, all at once."""
    declared = {
        name for config in template.functions.values() if config.not_runnable is None for name in config.environment
    }

    def start_postgres() -> None:
        backing.postgres = Postgres.start(origin=options.origin, max_connections=options.max_connections)

    def start_redis() -> None:
        backing.redis = Redis.start(origin=options.origin)

    def start_aws() -> None:
        backing.aws = Aws.start()

    starts = [
        start for name, start in (("DATABASE_URL", start_postgres), ("REDIS_URL", start_redis)) if name in declared
    ]
    if options.aws == "local" or (options.aws == "auto" and _needs_aws(template)):
        starts.append(start_aws)
    await asyncio.gather(*(asyncio.to_thread(start) for start in starts))


def _local_variables(config: FunctionConfig, backing: Backing, urls: list[str]) -> dict[str, str]:
    variables = dict(config.environment)
    if "DATABASE_URL" in variables and backing.postgres is not None:
        variables["DATABASE_URL"] = backing.postgres.url(
            urlsplit(variables["DATABASE_URL"]).path.lstrip("/") or "postgres"
        )
    if "REDIS_URL" in variables and backing.redis is not None:
        variables["REDIS_URL"] = backing.redis.url(urlsplit(variables["REDIS_URL"]).path.lstrip("/") or None)
    if backing.aws is not None:
        variables.setdefault("AWS_ENDPOINT_URL", backing.aws.endpoint_url)
    if urls:
        variables.setdefault("AWS_ENDPOINT_URL_LAMBDA", urls[0])
    return variables


def _read_env_vars(path: Path | None, template: Template) -> dict[str, dict[str, str]]:
    """SAM CLI's --env-vars file: {"Function": {"NAME": "value"}, "Parameters": {...for all...}}; only declared names are set."""
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"--env-vars {path}: {error}") from None
    if not isinstance(document, dict) or not all(isinstance(value, dict) for value in document.values()):
        raise StartError(
            f'--env-vars {path}: must be an object of objects, as {{"FunctionLogicalId": {{"NAME": "value"}}}}'
        )
    shared = document.get("Parameters", {})
    unknown = sorted(
        set(document)
        - {"Parameters"}
        - {name for f in template.functions.values() for name in (f.logical_id, f.function_name)}
    )
    if unknown:
        raise StartError(f"--env-vars {path}: no function {unknown[0]!r} in {template.path}")
    chosen: dict[str, dict[str, str]] = {}
    for logical_id, config in template.functions.items():
        wanted = {**shared, **document.get(config.function_name, {}), **document.get(logical_id, {})}
        chosen[logical_id] = {name: str(value) for name, value in wanted.items() if name in config.environment}
    return chosen


def _bind(options: EmulatorOptions, count: int) -> list[socket.socket]:
    """One listening socket per API, on the ports from --port on (any free ones for port 0)."""
    sockets: list[socket.socket] = []
    for index in range(max(count, 1)):
        port = options.port + index if options.port else 0
        each = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            each.bind((options.host, port))
        except OSError as error:
            each.close()
            for other in sockets:
                other.close()
            reason = error.strerror or str(error)
            raise StartError(f"{options.host}:{port} cannot be used ({reason}); choose another with --port") from None
        each.listen(1024)
        sockets.append(each)
    return sockets


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the command owns signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(apps: Sequence[Callable[..., Any]], sockets: list[socket.socket]) -> AsyncIterator[None]:
    servers = []
    tasks = []
    protocol = functools.partial(OneWriteProtocol, backlog=Backlog(asyncio.get_running_loop()))
    for app, each in zip(apps, sockets, strict=False):
        config = uvicorn.Config(
            app,
            http=cast(type[OneWriteProtocol], protocol),
            ws="none",
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # X-Forwarded-For is the client's word and no address of ours
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,
            backlog=1024,
        )
        server = _Server(config)
        servers.append(server)
        tasks.append(asyncio.create_task(server.serve(sockets=[each])))
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
