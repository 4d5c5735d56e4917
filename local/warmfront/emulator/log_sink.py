"""Where an emulator's logs go, as its options say."""

import os
import sys
from collections.abc import Callable

from warmfront.emulator.lambda_service.logs.sinks import LogSink, as_json, for_people
from warmfront.emulator.options import EmulatorOptions, StartError


def log_sink(options: EmulatorOptions) -> LogSink:
    """The terminal or a file, in the format asked for. Raises StartError where the file cannot be written."""
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


def noting(sink: LogSink) -> Callable[[str], None]:
    """A function that writes the emulator's own lines among the logs that they explain."""
    return lambda line: sink.write("warmfront", f"warmfront: {line}\n".encode())
