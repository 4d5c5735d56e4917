"""`warmfront serve`: serves a template's APIs and functions until it is stopped."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from warmfront.cli.arguments import count_up_to, port
from warmfront.cli.emulator_arguments import add_common_arguments, options_of, run_reported
from warmfront.emulator.compose import read_template, running
from warmfront.emulator.lambda_service.environments.process_group import open_many_files
from warmfront.emulator.lambda_service.service_options import ACCOUNT_CONCURRENCY
from warmfront.emulator.options import StartError
from warmfront.emulator.start_table import describe_start, start_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "-p", "--port", type=port, default=3000, help="port of the first API; 0: any free port (default: 3000)"
    )
    parser.add_argument(
        "--idle",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="end environments that are idle for this long (default: 600)",
    )
    parser.add_argument(
        "--enforce-auth",
        action="store_true",
        help="check JWT, Cognito and IAM authorizers too; Lambda authorizers always run",
    )
    parser.add_argument("--jwks", metavar="FILE|URL", help="public keys for verifying JWTs (with --enforce-auth)")
    parser.add_argument(
        "--trust-tokens",
        action="store_true",
        help="accept JWTs without verifying their signature (with --enforce-auth)",
    )
    parser.add_argument("--enforce-throttles", action="store_true", help="throttle requests by the template's limits")
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
        help="retry asynchronous invocations X times sooner than AWS does",
    )
    parser.add_argument(
        "--warm", type=int, default=0, metavar="N", help="start N environments of every function ahead of requests"
    )
    parser.add_argument(
        "--start",
        choices=("template", "on-demand", "snap-start", "provisioned", "managed"),
        default="template",
        help="how environments of all functions start; template (default): as each function configures it",
    )
    parser.add_argument(
        "--provisioned",
        type=count_up_to(1000),
        default=1,
        metavar="N",
        help="environments started ahead of requests with --start provisioned and managed (default: 1)",
    )
    parser.add_argument(
        "--max-concurrency",
        type=count_up_to(1000),
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
    parser.add_argument(
        "-d",
        "--debug-port",
        type=count_up_to(65_535),
        metavar="PORT",
        help="port of the debugger, as in SAM CLI: with --debug-function, or for a template with one function",
    )
    parser.add_argument(
        "--debug-function", metavar="NAME", help="the function that waits for the debugger on --debug-port"
    )
    parser.add_argument("--no-reload", action="store_true", help="do not reload functions when their code changes")
    parser.add_argument(
        "--no-event-sources", action="store_true", help="do not run the template's schedules and queues"
    )
    parser.add_argument(
        "--observe",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="metrics, traces and an access log (--no-observe: turn them off, with their small cost)",
    )
    parser.add_argument(
        "--metrics-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer scrapes of /_warmfront/metrics under this name too, such as host.containers.internal (repeatable)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="list every route, event source and warning")
    parser.add_argument("--json", action="store_true", help="print the start table as one line of JSON when ready")
    parser.add_argument("-l", "--log-file", type=Path, help="write function logs to this file instead of the terminal")
    parser.add_argument(
        "--log-format",
        choices=("auto", "text", "color", "json"),
        default="auto",
        help="text: as in CloudWatch; color: for people; auto: color on a terminal, else text; json: one object per line",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    open_many_files()

    async def main() -> int:
        options = options_of(
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
            debug=debug_choices(args),
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
            about = describe_start(emulator, options)
            if args.json:
                print(json.dumps(about), flush=True)
            else:
                show_lines(start_table(about, verbose=args.verbose))
                print(f"Warmfront ready on {emulator.urls[0]}", flush=True)
            await stop.wait()
        return 0

    return run_reported(main)


def show_lines(lines: list[str]) -> None:
    """Print lines of `label text`, on a terminal with bold labels and yellow warnings."""
    if not sys.stdout.isatty():
        print("\n".join(lines), flush=True)
        return
    # Only for a terminal: importing rich takes as long as a small handler's imports.
    from rich.text import Text

    from warmfront.cli.console import print_lines

    print_lines(
        [Text.assemble((line[:10], "yellow" if line.startswith("warning") else "bold"), line[10:]) for line in lines]
    )


def debug_choices(args: argparse.Namespace) -> list[str]:
    """Return NAME=PORT of the functions to debug, from --debug, or from SAM CLI's --debug-port and --debug-function.

    Raises:
        StartError: --debug-port does not say which of several functions to debug.
    """
    if args.debug_port is None:
        return list(args.debug)
    name = args.debug_function
    if name is None:
        functions = list(read_template(options_of(args)).functions)
        if len(functions) != 1:
            raise StartError(
                f"--debug-port {args.debug_port}: choose one with --debug-function: {', '.join(functions)}"
            )
        name = functions[0]
    return [*args.debug, f"{name}={args.debug_port}"]
