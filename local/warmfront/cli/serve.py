"""`warmfront serve` and `warmfront invoke`: the emulator from the command line."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from warmfront.backing.errors import BackingError
from warmfront.emulator.compose import Emulator, EmulatorOptions, StartError, running
from warmfront.emulator.lambda_service.environments.process_group import open_many_files
from warmfront.emulator.lambda_service.service import ACCOUNT_CONCURRENCY, new_trace_id
from warmfront.emulator.lambda_service.types import ServiceError
from warmfront.emulator.template import TemplateError, parse_parameter_overrides


def run_loop[T](main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on uvloop where it is installed, else on asyncio's loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    return uvloop.run(main())


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template (default: template.yaml)"
    )
    parser.add_argument("--built", action="store_true", help="run what `sam build` left in .aws-sam/build")
    parser.add_argument(
        "--parameter-overrides",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="template parameters, as SAM CLI takes them",
    )
    parser.add_argument(
        "--env-vars", type=Path, metavar="FILE", help="JSON file of environment variables, as SAM CLI takes it"
    )
    parser.add_argument("--no-freeze", action="store_true", help="let processes run between invocations")
    parser.add_argument(
        "--native-client",
        action="store_true",
        help="let handlers' runtime client use its native transport, slower, instead of its equivalent here",
    )
    parser.add_argument(
        "--node-client",
        type=Path,
        metavar="FOLDER",
        help="run Node.js functions too, under npm's aws-lambda-ric in this folder's node_modules",
    )
    parser.add_argument(
        "--state-dir", type=Path, help="keep staged code, /tmp folders and logs here (default: a temporary folder)"
    )
    parser.add_argument(
        "--backing",
        choices=("auto", "system", "wheel"),
        default=os.environ.get("WARMFRONT_BACKING", "auto"),
        help="Postgres and Redis: DATABASE_URL and REDIS_URL, else the machine's, else the wheels' (auto), or one kind only",
    )
    parser.add_argument("--max-connections", type=int, default=200, help="of the local Postgres (default: 200)")
    parser.add_argument(
        "--aws",
        choices=("auto", "local", "real", "none"),
        default="auto",
        help="what handlers reach as AWS: a local one where the template needs it (auto), always, yours, or nothing",
    )


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "-p", "--port", type=int, default=3000, help="port of the first API; 0 takes a free one (default: 3000)"
    )
    parser.add_argument(
        "--idle", type=float, default=600.0, metavar="SECONDS", help="end environments idle for so long (default: 600)"
    )
    parser.add_argument(
        "--enforce-auth", action="store_true", help="refuse what the template's authorizers would refuse"
    )
    parser.add_argument(
        "--jwks", metavar="FILE|URL", help="public keys that JWTs are verified with (with --enforce-auth)"
    )
    parser.add_argument(
        "--trust-tokens", action="store_true", help="take a JWT's signature on trust (with --enforce-auth)"
    )
    parser.add_argument(
        "--enforce-throttles", action="store_true", help="hold requests to the template's throttling limits"
    )
    parser.add_argument(
        "--account-concurrency",
        type=int,
        default=ACCOUNT_CONCURRENCY,
        metavar="N",
        help=f"concurrent invocations of the whole account (default: {ACCOUNT_CONCURRENCY})",
    )
    parser.add_argument(
        "--time-scale",
        type=float,
        default=1.0,
        metavar="X",
        help="try asynchronous invocations again X times sooner than AWS does",
    )
    parser.add_argument(
        "--warm", type=int, default=0, metavar="N", help="start N environments of every function ahead of requests"
    )
    parser.add_argument(
        "--start",
        choices=("template", "on-demand", "snap-start", "provisioned", "managed"),
        default="template",
        help="how environments of every function start; template (default): as each function asks for",
    )
    parser.add_argument(
        "--provisioned",
        type=_count,
        default=1,
        metavar="N",
        help="environments ahead with --start provisioned and managed (default: 1)",
    )
    parser.add_argument(
        "--max-concurrency",
        type=_count,
        default=4,
        metavar="N",
        help="processes of an environment with --start managed (default: 4)",
    )
    parser.add_argument(
        "--debug",
        action="append",
        default=[],
        metavar="NAME[=PORT]",
        help="the function waits for a debugger (debugpy) on this port (default: 5678) and never times out",
    )
    parser.add_argument("--no-reload", action="store_true", help="keep running the code that was there at the start")
    parser.add_argument(
        "--no-event-sources", action="store_true", help="leave the template's schedules and queues alone"
    )
    parser.add_argument(
        "--observe",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="metrics, traces and an access log (--no-observe: not even their small cost)",
    )
    parser.add_argument(
        "--metrics-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer scrapes of /_warmfront/metrics under this name too, such as host.containers.internal (repeatable)",
    )
    parser.add_argument("--log-file", type=Path, help="write function logs to this file instead of the terminal")
    parser.add_argument(
        "--log-format",
        choices=("auto", "text", "color", "json"),
        default="auto",
        help="text is what CloudWatch would hold; color is for people, and auto takes it on a terminal; json is a line each",
    )


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def add_invoke_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("name", help="logical id or name of the function")
    parser.add_argument(
        "-e", "--event", default=None, metavar="FILE|-", help="JSON event; - reads standard input (default: {})"
    )


def _options(args: argparse.Namespace, **more: Any) -> EmulatorOptions:
    return EmulatorOptions(
        template=args.template,
        parameters=parse_parameter_overrides(args.parameter_overrides),
        built=args.built,
        freeze=not args.no_freeze,
        native_client=args.native_client,
        node_client=args.node_client,
        env_vars=args.env_vars,
        state_dir=args.state_dir,
        origin=args.backing,
        max_connections=args.max_connections,
        aws=args.aws,
        **more,
    )


def _reported(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Known failures are one line on stderr and exit status 1 (2: the template or an option is wrong)."""
    try:
        return run_loop(main)
    except (TemplateError, StartError) as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 2
    except BackingError as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 1


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    open_many_files()

    async def main() -> int:
        options = _options(
            args,
            host=args.host,
            port=args.port,
            idle_s=args.idle,
            log_file=args.log_file,
            enforce_auth=args.enforce_auth,
            jwks=args.jwks,
            trust_tokens=args.trust_tokens,
            enforce_throttles=args.enforce_throttles,
            account_concurrency=args.account_concurrency,
            time_scale=args.time_scale,
            warm=args.warm,
            start=args.start,
            provisioned=args.provisioned,
            processes=args.max_concurrency,
            debug=args.debug,
            reload=not args.no_reload,
            event_sources=not args.no_event_sources,
            log_format=args.log_format,
            observe=args.observe,
            metrics_hosts=args.metrics_host,
        )
        if args.enforce_auth and args.trust_tokens:
            print("warning: --trust-tokens: anybody can sign a token that this emulator accepts", file=sys.stderr)
        if args.host not in ("127.0.0.1", "localhost", "::1"):
            print(f"warning: listening on {args.host}: others on the network can run your functions", file=sys.stderr)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with running(options) as emulator:
            print("\n".join(start_table(emulator, options)), flush=True)
            print(f"Warmfront ready on {emulator.urls[0]}", flush=True)
            await stop.wait()
        return 0

    return _reported(main)


def start_table(emulator: Emulator, options: EmulatorOptions) -> list[str]:
    """What runs: backing services, functions, routes by API, warnings."""
    lines = []
    for name, about in emulator.backing.describe().items():
        assert isinstance(about, dict)
        lines.append(f"{name:<10} {about['version']} ({about['origin']}) on port {about['port']}")
    for logical_id, config in emulator.template.functions.items():
        reason = emulator.service.not_runnable.get(logical_id)
        about_it = (
            f"not runnable: {reason}" if reason else f"{config.runtime}, {config.memory_mb} MB, {config.timeout_s} s"
        )
        lines.append(f"function   {logical_id:<20} {about_it}")
    for app, url in zip(emulator.apps, emulator.urls, strict=False):
        lines += [f"route      {url} {route.key} -> {route.function}" for route in app.routes]
        authorizers = sorted({route.authorizer for route in app.routes if route.authorizer})
        if authorizers and not options.enforce_auth:
            lines.append(f"warning    {app.api.logical_id}: {', '.join(authorizers)} not enforced; --enforce-auth does")
    if options.event_sources:
        lines += [f"source     {about}" for about in emulator.sources]
    for logical_id, port in emulator.service.options.debug.items():
        lines.append(f"debug      {logical_id} waits for a debugger on 127.0.0.1:{port} at its first request")
    lines += [f"warning    {warning}" for warning in emulator.warnings]
    lines.append(f"invoke     aws lambda invoke --endpoint-url {emulator.urls[0]} --function-name NAME out.json")
    if options.observe:
        lines.append(f"dashboard  {emulator.urls[0]}/_warmfront/#token={options.token}")
    lines.append(f"control    {emulator.urls[0]}/_warmfront/state (token for writes: {options.token})")
    return lines


def read_event(source: str | None) -> bytes:
    """The event's bytes. Raises StartError when they are not JSON."""
    if source is None:
        return b"{}"
    try:
        event = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        json.loads(event)
    except (OSError, ValueError) as error:
        raise StartError(f"--event {source}: {error}") from None
    return event


def invoke(args: argparse.Namespace) -> int:
    """One invocation: payload on stdout, logs on stderr; exit status 1 when the function failed."""

    async def main() -> int:
        event = read_event(args.event)
        async with running(_options(args, quiet_logs=True), gateway=False) as emulator:
            emulator.service.options.sink.listeners.append(_to_stderr)
            try:
                result = await emulator.service.invoke(args.name, event, trace_id=new_trace_id(sampled=False))
            except ServiceError as error:
                known = ", ".join(emulator.service.functions)
                raise StartError(f"{error}; the template has: {known}") from None
            sys.stdout.write(result.payload.decode() + "\n")
            return 1 if result.function_error else 0

    return _reported(main)


def _to_stderr(function: str, chunk: bytes) -> None:  # noqa: ARG001
    sys.stderr.buffer.write(chunk)
    sys.stderr.flush()
