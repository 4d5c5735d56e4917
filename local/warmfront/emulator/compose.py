"""Composes one running emulator: backing services, the Lambda service and a gateway for each API."""

import asyncio
import contextlib
import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from warmfront.backing.watcher import get_watcher
from warmfront.emulator.aws_access import HostCredentials, choose_region, local_session
from warmfront.emulator.backing_services import (
    BackingServices,
    declared_urls,
    needs_aws,
    start_backing,
    starts_aws,
    unused_urls,
)
from warmfront.emulator.build_folder import compare_with_build
from warmfront.emulator.data_directory import DataDirectory
from warmfront.emulator.databases import create_databases
from warmfront.emulator.debug_ports import debug_ports
from warmfront.emulator.dependencies.install import Installer
from warmfront.emulator.function_variables import local_variables, read_env_vars, url_warnings
from warmfront.emulator.gateway.app import GatewayApp, create_apps
from warmfront.emulator.gateway.options import GatewayOptions
from warmfront.emulator.hot_reload import watch_sources
from warmfront.emulator.lambda_service.api.control import control_routes
from warmfront.emulator.lambda_service.api.invoke_api import invoke_routes
from warmfront.emulator.lambda_service.aws_clients import AwsClients
from warmfront.emulator.lambda_service.environments.mount_namespace import MountsInTheMaking
from warmfront.emulator.lambda_service.environments.node_client import find_node_client
from warmfront.emulator.lambda_service.environments.staging import StagingError
from warmfront.emulator.lambda_service.environments.variables import fake_credentials
from warmfront.emulator.lambda_service.event_sources.sources import EventSources, SourceError
from warmfront.emulator.lambda_service.logs.sinks import LogSink
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.lambda_service.service_options import ServiceOptions
from warmfront.emulator.lambda_service.trace_header import Sampler
from warmfront.emulator.log_sink import log_sink, noting
from warmfront.emulator.no_aws import refusing_aws
from warmfront.emulator.observe.access_log import AccessLog
from warmfront.emulator.observe.dashboard import dashboard_routes
from warmfront.emulator.observe.dashboard_guard import SameOriginOnly
from warmfront.emulator.observe.http_routes import observe_routes
from warmfront.emulator.observe.observatory import Observatory
from warmfront.emulator.observe.switch import Switch, switch_routes
from warmfront.emulator.options import EmulatorOptions, StartError
from warmfront.emulator.own_addresses import OwnAddresses
from warmfront.emulator.resources.stack import StackMaker, has_resources, sending_targets, summary
from warmfront.emulator.servers import bind, serving
from warmfront.emulator.set_up import run_set_up
from warmfront.emulator.template import FunctionConfig, SqsSource, Template, load_template, read_samconfig
from warmfront.emulator.unserved import grouped, unserved


@dataclass(slots=True)
class Emulator:
    """The running parts of an emulator."""

    template: Template
    service: LambdaService
    backing: BackingServices
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


def read_template(
    options: EmulatorOptions, region: str | None = None, attributes: Mapping[str, str] | None = None
) -> Template:
    """The template, with samconfig's parameters under those of the command line.

    `attributes`: what references to resources in the local AWS stand for.
    """
    config = read_samconfig(options.template.parent, file=options.config_file, environment=options.config_env)
    load = functools.partial(
        load_template,
        options.template,
        parameters={**config.parameter_overrides(options.command), **options.parameters},
        fallbacks=config.parameter_overrides("deploy"),
        region=region,
        attributes=attributes,
    )
    template = load(built=options.built is True)
    if options.built is not None:
        return template
    newer, line = compare_with_build(template)
    if newer:
        template = load(built=True)
    return template if line is None else replace(template, warnings=(line, *template.warnings))


@contextlib.asynccontextmanager
async def running(options: EmulatorOptions, *, gateway: bool = True) -> AsyncIterator[Emulator]:
    """Start an emulator, and end everything that was started at the end of the block.

    Raises:
        StartError: an option is invalid, or something could not start.
        TemplateError: the template is invalid.
        BackingError: a backing service did not start.
    """
    region = choose_region(options.region, os.environ, profile=options.profile)
    template = read_template(options, region)
    async with contextlib.AsyncExitStack() as stack:
        sink = log_sink(options)
        stack.callback(sink.close)
        listeners = bind(options, len(template.apis)) if gateway else []
        for each in listeners:
            stack.callback(each.close)
        urls = [each.url for each in listeners]
        data = _data_directory(options, template, stack)
        backing = BackingServices()
        stack.push_async_callback(asyncio.to_thread, backing.stop)
        try:
            state_dir = _state_dir(options, stack)
            mounts = _begin_mounts(options, state_dir, stack)
            template, not_made = await _start_servers(options, template, region, backing, data, urls)
            template = await asyncio.to_thread(_install_dependencies, options, template)
            if backing.postgres is not None:
                await create_databases(template, backing.postgres)
            observatory = _observatory(options, template, sink) if gateway else None
            if observatory is not None:
                stack.callback(observatory.close)
            service_options = await _prepare(
                options, template, region, backing, urls, sink, stack, observatory, state_dir, mounts
            )
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
                apps = create_apps(template, service, _gateway_options(options, service.options, internal, observatory))
                if switch is not None:
                    switch.watch(apps)
                warnings = [
                    *unused_urls(backing, os.environ),
                    *url_warnings(template, backing),
                    *template.problems,
                    *template.warnings,
                    *grouped(unserved(template)),
                    *not_made,
                    *service.warnings,
                ]
                emulator = Emulator(template, service, backing, apps, urls, warnings)
                await _before_requests(emulator, options, data, with_sources=gateway)
                async with (
                    serving(apps or [internal], listeners),
                    _attending(emulator, options, with_sources=gateway),
                ):
                    try:
                        yield emulator
                    finally:
                        if observatory is not None:
                            observatory.close()  # before the servers, which would wait for open live streams
        except (SourceError, StagingError) as error:
            raise StartError(str(error)) from None


async def _start_servers(
    options: EmulatorOptions,
    template: Template,
    region: str,
    backing: BackingServices,
    data: DataDirectory | None,
    urls: list[str],
) -> tuple[Template, Sequence[str]]:
    """Start the backing services and make the template's resources in the local AWS.

    Returns the template with the resources' values in place of references, and a line for each that could not be made.
    """
    lambda_endpoint = urls[0] if urls else None
    targets = sending_targets(template)
    if not starts_aws(template, options) or not (has_resources(template) or targets):
        await start_backing(backing, template, options, data, region=region, lambda_endpoint=lambda_endpoint)
        return template, ()
    maker = await StackMaker.start(template, region=region, targets=targets, kept=data is not None)
    try:
        await start_backing(backing, template, options, data, region=region, lambda_endpoint=lambda_endpoint)
        assert backing.aws is not None
        began = time.monotonic()
        print("resources  making the template's resources in the local AWS", file=sys.stderr, flush=True)
        stack = await maker.make(backing.aws.endpoint_url)
        took = f"{time.monotonic() - began:.1f} s"
        print(f"resources  {summary(stack) or 'none made'} in {took}", file=sys.stderr, flush=True)
    finally:
        maker.stop()
    return read_template(options, region, stack.attributes), stack.warnings


def _install_dependencies(options: EmulatorOptions, template: Template) -> Template:
    """Install the requirements of functions and layers that the emulator's own packages do not satisfy."""
    installer = Installer(
        options.template.absolute().parent / ".warmfront" / "dependencies",
        say=lambda line: print(f"packages   {line}", file=sys.stderr, flush=True),
        install=options.install,
    )
    found = installer.of_template(template)
    return replace(found, warnings=(*found.warnings, *installer.warnings))


async def _prepare(
    options: EmulatorOptions,
    template: Template,
    region: str,
    backing: BackingServices,
    urls: list[str],
    sink: LogSink,
    stack: contextlib.AsyncExitStack,
    observatory: Observatory | None,
    state_dir: Path,
    mounts: MountsInTheMaking | None,
) -> ServiceOptions:
    """Start the backing services, and build the Lambda service's options."""
    overrides = read_env_vars(options.env_vars, template)
    debug = debug_ports(options.debug, template)
    watcher = get_watcher()
    real = HostCredentials(region, options.profile) if options.aws == "real" else None
    if real is not None:
        await asyncio.to_thread(real.variables)  # raises StartError now, not at the first cold start
    aws = _aws_clients(region, real, backing)
    if real is not None:
        aws_endpoint = None
    elif backing.aws is not None:
        aws_endpoint = backing.aws.endpoint_url
    else:
        aws_endpoint = await stack.enter_async_context(refusing_aws())

    addresses = OwnAddresses(template, urls)

    def environment(config: FunctionConfig) -> Mapping[str, str]:
        own = addresses.localized(local_variables(config, backing, urls, aws_endpoint))
        return {**own, **overrides.get(config.logical_id, {})}

    return ServiceOptions(
        state_dir,
        sink,
        region=region,
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
        credentials=real.variables if real is not None else fake_credentials,
        aws=aws,
        note=noting(sink),
        observer=observatory,
        mounts=mounts,
        xray_address=observatory.segments.address if observatory is not None else None,
        sampler=Sampler() if observatory is not None else None,
        on_spawn=watcher.register,
        on_gone=watcher.unregister,
    )


async def _before_requests(
    emulator: Emulator, options: EmulatorOptions, data: DataDirectory | None, *, with_sources: bool
) -> None:
    """Do what must precede requests; connections made in the meantime wait in the listening sockets' queue."""
    if with_sources:  # a single invocation starts what it needs itself
        await emulator.service.prepare()
    if options.set_up:
        remote = [] if options.seed_url else emulator.backing.remote
        await run_set_up(emulator.template, emulator.service, data, remote=remote)


@contextlib.asynccontextmanager
async def _attending(emulator: Emulator, options: EmulatorOptions, *, with_sources: bool) -> AsyncIterator[None]:
    """Background work: event sources, hot reload and environments started ahead of requests."""
    service = emulator.service
    async with contextlib.AsyncExitStack() as stack:
        if options.warm:
            await service.warm(options.warm)
        if options.reload and with_sources:
            stack.callback(watch_sources(service, warm=options.warm).close)
        if options.event_sources and with_sources:
            await stack.enter_async_context(EventSources(service))
        yield


def _data_directory(
    options: EmulatorOptions, template: Template, stack: contextlib.AsyncExitStack
) -> DataDirectory | None:
    """Opened only for a template that has data to keep."""
    if options.data is None or not (declared_urls(template) or needs_aws(template)):
        return None
    data = DataDirectory.open(options.data, reset=options.reset)
    stack.callback(data.close)
    return data


def _begin_mounts(
    options: EmulatorOptions, state_dir: Path, stack: contextlib.AsyncExitStack
) -> MountsInTheMaking | None:
    if not options.private_mounts:
        return None
    mounts = MountsInTheMaking.begin(state_dir)
    stack.callback(mounts.abandon)
    return mounts


def _state_dir(options: EmulatorOptions, stack: contextlib.AsyncExitStack) -> Path:
    """The folder for staged code, which is absolute because processes begin elsewhere; a temporary one is removed at the end."""
    if options.state_dir is None:
        folder = Path(tempfile.mkdtemp(prefix="warmfront-"))
        get_watcher().remove_on_exit(folder)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    try:
        options.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"--state-dir {options.state_dir}: {error.strerror}") from None
    return options.state_dir.resolve()


def _aws_clients(region: str, real: HostCredentials | None, backing: BackingServices) -> AwsClients | None:
    if real is not None:
        return AwsClients(real.session, endpoint_url=None)
    if backing.aws is None:
        return None
    return AwsClients(lambda: local_session(region), endpoint_url=backing.aws.endpoint_url)


def _observatory(options: EmulatorOptions, template: Template, sink: LogSink) -> Observatory | None:
    if not options.observe:
        return None
    access = AccessLog(sink, as_objects=options.log_format == "json")
    return Observatory(template, access=access, note=noting(sink))


def _watching(
    switch: Switch | None, service: LambdaService, options: EmulatorOptions, backing: BackingServices
) -> list[Route]:
    """The dashboard, metrics and logs of the emulator."""
    if switch is None:
        return []
    observatory = switch.observatory
    page = dashboard_routes(observatory, service, token=options.token, describe=lambda: _describe(backing))
    return [*observe_routes(observatory), *switch_routes(switch, token=options.token), *page]


def _gateway_options(
    options: EmulatorOptions, chosen: ServiceOptions, internal: Starlette, observatory: Observatory | None
) -> GatewayOptions:
    return GatewayOptions(
        internal=internal,
        region=chosen.region,
        debugged=frozenset(chosen.debug),
        enforce_auth=options.enforce_auth,
        jwks=options.jwks,
        trust_tokens=options.trust_tokens,
        enforce_throttles=options.enforce_throttles,
        note=chosen.note,
        observer=observatory,
    )


def _describe(backing: BackingServices) -> dict[str, object]:
    return {"emulator": {"pid": os.getpid()}, "backing": backing.describe()}
