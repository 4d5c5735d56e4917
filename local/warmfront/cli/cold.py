"""`warmfront cold`: measures cold starts by way to start and by stage."""

import argparse
import re
import shlex
import sys
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from warmfront.backing.errors import BackingError
from warmfront.bench.cold.cold_options import ANATOMY_RUNS, CROWD, RAMP_S, ColdOptions, N, Subject
from warmfront.bench.cold.cold_session import chosen_ways, run_cold
from warmfront.bench.load.load_process import LoadError
from warmfront.bench.load.workloads import SHOP_WORKLOADS, WorkloadError, WorkloadFile, load_workloads
from warmfront.bench.run.emulator_process import EmulatorError
from warmfront.bench.run.servers import Needs
from warmfront.cli.emulator_arguments import read_event
from warmfront.emulator.compose import read_template
from warmfront.emulator.gateway import payload, payload_v1
from warmfront.emulator.gateway.exchange import Call, Request, api_context, read_head
from warmfront.emulator.options import EmulatorOptions, StartError
from warmfront.emulator.template import Api, Route, Template, TemplateError
from warmfront.report.terminal import show
from warmfront.results import write_result

_PARAMETER = re.compile(r"\{([^{}+]+)\+?\}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME", help="functions, by logical id; the first is the baseline")
    parser.add_argument("-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template")
    parser.add_argument(
        "--n", type=int, default=N, metavar="N", help=f"first invocations of each function and way (default: {N})"
    )
    parser.add_argument(
        "--ways",
        default="on-demand,snap-start",
        metavar="WAY,...",
        help="on-demand, snap-start, provisioned, managed, or all (default: on-demand,snap-start)",
    )
    parser.add_argument(
        "-e",
        "--event",
        metavar="FILE|-",
        help="event to invoke the functions with (default: a GET of each function's first GET route, path parameters 1)",
    )
    parser.add_argument(
        "--workload",
        type=Path,
        default=SHOP_WORKLOADS,
        metavar="FILE",
        help="workload file whose set-up runs first (default: the shop's)",
    )
    parser.add_argument("--no-setup", action="store_true", help="run no set-up: measure with the existing data")
    parser.add_argument(
        "--backing",
        choices=("auto", "system", "wheel", "url"),
        help="where Postgres and Redis come from: programs of this machine (system) or of the wheels (wheel), the first found"
        " (auto), or servers already running at DATABASE_URL and REDIS_URL (url)",
    )
    parser.add_argument(
        "--crowd",
        type=int,
        default=CROWD,
        metavar="N",
        help=f"environments started at once (default: {CROWD}; 0: none)",
    )
    parser.add_argument("--no-anatomy", action="store_true", help="skip the import tree")
    parser.add_argument(
        "--thaw", action="store_true", help="also measure the first invocation after pauses (three minutes)"
    )
    parser.add_argument(
        "--ramp",
        action="store_true",
        help=f"also measure a jump from 0 to 50 callers, {RAMP_S:.0f} s for each function and way",
    )
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, metavar="SECONDS", help="length of a ramp")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the order in which functions and ways take turns"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="result file (default: results/cold-TIME.json)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure. Exit status: 0 measured (the table says if it is valid), 1 could not measure, 2 invalid options."""
    try:
        options = options_of(args)
    except (StartError, TemplateError, WorkloadError, ValueError) as error:
        print(f"warmfront cold: {error}", file=sys.stderr)
        return 2
    try:
        result = run_cold(options)
    except (EmulatorError, LoadError, BackingError) as error:
        print(f"warmfront cold: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nwarmfront cold: interrupted; nothing was written", file=sys.stderr)
        return 130
    assert options.output is not None
    write_result(result, options.output)
    show(result)
    print(f"\nwritten to {options.output}")
    return 0


def options_of(args: argparse.Namespace) -> ColdOptions:
    """Build the options of a run.

    Raises:
        ValueError: a function or number is invalid.
        TemplateError: the template cannot be read.
        StartError: the event cannot be read.
        WorkloadError: the workload file is invalid.
    """
    if args.n < 1 or args.crowd < 0:
        raise ValueError("--n must be at least 1, and --crowd at least 0")
    template = read_template(EmulatorOptions(template=args.template))
    declared = {name for each in template.functions.values() if each.not_runnable is None for name in each.environment}
    event = None if args.event is None else read_event(args.event)
    return ColdOptions(
        template=args.template,
        subjects=tuple(_subject(template, name, event, args.event) for name in dict.fromkeys(args.name)),
        needs=Needs("DATABASE_URL" in declared, "REDIS_URL" in declared),
        backing=args.backing,
        ways=chosen_ways(args.ways),
        n=args.n,
        crowd=args.crowd,
        anatomy_runs=0 if args.no_anatomy else ANATOMY_RUNS,
        thaw=args.thaw,
        ramp=args.ramp,
        ramp_s=args.ramp_s,
        setup=None if args.no_setup else _setup(template, args.workload),
        seed=args.seed,
        output=args.output or Path("results") / f"cold-{datetime.now():%Y%m%d-%H%M%S}.json",
        command=shlex.join(["warmfront", *sys.argv[1:]]),
    )


def _setup(template: Template, path: Path) -> WorkloadFile | None:
    """The workload file whose set-up to run; None where the default one is for other functions than the template's."""
    file = load_workloads(path)
    needed = {call.function for call in file.setup} | {variant.function for variant in file.variants}
    if needed <= template.functions.keys():
        return file
    if path != SHOP_WORKLOADS:
        raise ValueError(
            f"--workload {path}: the template has no {', '.join(sorted(needed - template.functions.keys()))}"
        )
    return None


def _subject(template: Template, name: str, event: bytes | None, source: str | None) -> Subject:
    config = template.function_named(name)
    if config is None:
        raise ValueError(f"no function {name!r} in {template.path}; it has {', '.join(template.functions)}")
    if event is not None:
        return Subject(config.logical_id, event, f"the event of {source}")
    found = [
        (api, route)
        for api in template.apis
        for route in api.routes
        if route.function == config.logical_id and route.method in ("GET", "ANY", "$default")
    ]
    if not found:
        return Subject(config.logical_id, b"{}", "an empty event, {}")
    api, route = found[0]
    path = _PARAMETER.sub("1", "/" if route.path == "$default" else route.path)
    return Subject(config.logical_id, first_event(api, route, path), f"GET {path}, payload {route.payload_format}")


def first_event(api: Api, route: Route, path: str) -> bytes:
    """Return the event that the gateway would send for a GET of `path`, with constant ids and times."""
    headers = [(b"host", b"localhost"), (b"accept", b"*/*"), (b"user-agent", b"warmfront-cold")]
    request = Request("GET", path, "", headers, read_head(headers), b"", "127.0.0.1", 80)
    call = Call(
        request,
        api_context(api),
        route,
        path,
        dict.fromkeys(_PARAMETER.findall(route.path), "1") or None,
        request_id="JKJaXmPLvHcESHA=",
        trace_id="Root=1-00000000-000000000000000000000000",
        time_text="01/Jan/2026:00:00:00 +0000",
        time_ms=1_767_225_600_000,
        request_uuid=str(UUID(int=0)),
    )
    if route.payload_format == "2.0":
        return msgspec.json.encode(payload.build_event(call))
    build = payload_v1.build_rest_event if api.kind == "rest" else payload_v1.build_http_event
    return msgspec.json.encode(build(call))
