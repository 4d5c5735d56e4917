"""Arguments and start-up shared by `warmfront serve` and `warmfront invoke`."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from warmfront.backing.errors import BackingError
from warmfront.backing.executables import backing_of_shell
from warmfront.cli.samconfig_arguments import add_config_arguments, find_template
from warmfront.emulator.options import EmulatorOptions, StartError
from warmfront.emulator.template import TemplateError, parse_parameter_overrides

DATA_FOLDER = ".warmfront"
"""Folder next to the template that keeps the backing services' data between runs."""


def run_loop[T](main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on uvloop where it is installed, else on asyncio's loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    return uvloop.run(main())


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that serve and invoke share."""
    parser.add_argument(
        "-t",
        "--template",
        "--template-file",
        type=Path,
        help="SAM or CloudFormation template (default: template.yaml, .yml or .json)",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--built",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run the output of `sam build` in .aws-sam/build, or the sources (default: the build if it is newer)",
    )
    parser.add_argument(
        "--parameter-overrides",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="template parameters, as SAM CLI takes them",
    )
    parser.add_argument(
        "-n", "--env-vars", type=Path, metavar="FILE", help="JSON file of environment variables, as SAM CLI takes it"
    )
    parser.add_argument(
        "--no-private-mounts",
        action="store_true",
        help="run functions with this machine's folders, instead of their own /var/task, /opt and /tmp",
    )
    parser.add_argument("--no-freeze", action="store_true", help="let processes run between invocations")
    parser.add_argument(
        "--native-client",
        action="store_true",
        help="use the native transport of Lambda's runtime client (slower) instead of the emulator's equivalent",
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
        choices=("auto", "system", "wheel", "url"),
        default=None,
        help="Postgres and Redis: the machine's, else the wheels' (auto, the default), one of these only, or the servers"
        " of DATABASE_URL and REDIS_URL (url)",
    )
    parser.add_argument(
        "--seed-url",
        action="store_true",
        help="with --backing url: run the template's set-up invocations even if a server is on another machine",
    )
    parser.add_argument(
        "--region", help="AWS region (default: AWS_REGION, AWS_DEFAULT_REGION, the profile's, us-east-1)"
    )
    parser.add_argument("--profile", help="AWS profile whose region is used, and with --aws real its credentials")
    parser.add_argument(
        "--ephemeral", action="store_true", help="keep no data: start with an empty Postgres and Redis, and remove them"
    )
    parser.add_argument("--reset", action="store_true", help="delete the data of earlier runs in .warmfront/ first")
    parser.add_argument("--no-setup", action="store_true", help="skip the set-up invocations that the template names")
    parser.add_argument(
        "--no-install", action="store_true", help="install no requirements.txt or package.json of functions and layers"
    )
    parser.add_argument(
        "--max-connections", type=int, default=200, help="max_connections of the local Postgres (default: 200)"
    )
    parser.add_argument(
        "--aws",
        choices=("auto", "local", "real", "none"),
        default="auto",
        help="what handlers reach as AWS: a local one where the template needs it (auto), always, yours, or nothing",
    )


def options_of(args: argparse.Namespace, **more: Any) -> EmulatorOptions:
    """Build the emulator's options from the shared arguments and from `more` fields.

    Raises:
        TemplateError: no template was found, or the parameter overrides are invalid.
    """
    template = find_template(args.template)
    return EmulatorOptions(
        template=template,
        config_file=args.config_file,
        config_env=args.config_env,
        parameters=parse_parameter_overrides(args.parameter_overrides),
        built=args.built,
        private_mounts=not args.no_private_mounts,
        freeze=not args.no_freeze,
        native_client=args.native_client,
        node_client=args.node_client,
        env_vars=args.env_vars,
        state_dir=args.state_dir,
        origin=args.backing or backing_of_shell(os.environ),
        seed_url=args.seed_url,
        region=args.region,
        profile=args.profile,
        max_connections=args.max_connections,
        aws=args.aws,
        data=None if args.ephemeral else template.absolute().parent / DATA_FOLDER,
        reset=args.reset,
        set_up=not args.no_setup,
        install=not args.no_install,
        **more,
    )


def run_reported(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `main`, and report known failures as one line on standard error.

    Returns:
        The exit status: that of `main`, 1 if a backing service failed, 2 for an invalid template or option.
    """
    try:
        return run_loop(main)
    except (TemplateError, StartError) as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 2
    except BackingError as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 1


def read_event(source: str | None) -> bytes:
    """Return the event in a file, or on standard input for "-"; `{}` for None.

    Raises:
        StartError: the file cannot be read or is not JSON.
    """
    if source is None:
        return b"{}"
    try:
        event = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        json.loads(event)
    except (OSError, ValueError) as error:
        raise StartError(f"--event {source}: {error}") from None
    return event
