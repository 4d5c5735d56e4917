"""`warmfront invoke`: runs one function once and prints its response."""

import argparse
import sys

from warmfront.cli.emulator_arguments import add_common_arguments, options_of, read_event, run_reported
from warmfront.emulator.compose import running
from warmfront.emulator.lambda_service.service import new_trace_id
from warmfront.emulator.lambda_service.types import ServiceError
from warmfront.emulator.options import StartError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("name", help="logical id or name of the function")
    parser.add_argument(
        "-e", "--event", default=None, metavar="FILE|-", help="JSON event; - reads standard input (default: {})"
    )


def run(args: argparse.Namespace) -> int:
    """Invoke once: response on standard output, logs on standard error. Exit status 1 if the function failed."""

    async def main() -> int:
        event = read_event(args.event)
        async with running(options_of(args, command="local_invoke", quiet_logs=True), gateway=False) as emulator:
            emulator.service.options.sink.listeners.append(_to_stderr)
            try:
                result = await emulator.service.invoke(args.name, event, trace_id=new_trace_id(sampled=False))
            except ServiceError as error:
                known = ", ".join(emulator.service.functions)
                raise StartError(f"{error}; the template has: {known}") from None
            sys.stdout.write(result.payload.decode() + "\n")
            return 1 if result.function_error else 0

    return run_reported(main)


def _to_stderr(function: str, chunk: bytes) -> None:  # noqa: ARG001
    sys.stderr.buffer.write(chunk)
    sys.stderr.flush()
