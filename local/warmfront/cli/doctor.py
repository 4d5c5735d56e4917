"""`warmfront doctor`: finds dangerous defaults and contradictions in a template."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from warmfront.cli.console import print_lines
from warmfront.cli.samconfig_arguments import add_config_arguments, find_template
from warmfront.doctor.examine import examine
from warmfront.doctor.finding import Finding, Limits, Severity
from warmfront.emulator.lambda_service.environments.launches import not_runnable
from warmfront.emulator.template import (
    Template,
    TemplateError,
    load_template,
    parse_parameter_overrides,
    read_samconfig,
)
from warmfront.emulator.unserved import unserved

STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.ADVICE: "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    limits = Limits()
    parser.add_argument(
        "-t", "--template", type=Path, metavar="FILE", help="default: template.yaml, .yml or .json, as SAM CLI looks"
    )
    parser.add_argument(
        "--parameter-overrides",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="template parameters, as SAM CLI takes them",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--section",
        default="local_start_api",
        metavar="COMMAND",
        help="section of samconfig whose parameter_overrides are used, e.g. deploy to check what would be deployed"
        " (default: local_start_api)",
    )
    parser.add_argument(
        "--max-connections",
        type=int,
        default=limits.max_connections,
        metavar="N",
        help="max_connections of Postgres (default: 100)",
    )
    parser.add_argument(
        "--kept-connections",
        type=int,
        default=limits.kept_connections,
        metavar="N",
        help="connections reserved for others (default: 10)",
    )
    parser.add_argument(
        "--account-concurrency",
        type=int,
        default=limits.account_concurrency,
        metavar="N",
        help="concurrency limit of the AWS account (default: 1000)",
    )
    parser.add_argument(
        "--all", action="store_true", help="also list advice, which depends on things that a template does not say"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.epilog = "Exit status: 0 nothing found, 1 mistakes found, 2 the template cannot be read."


def run(args: argparse.Namespace) -> int:
    """Examine a template. Exit status as in the epilog."""
    try:
        args.template = find_template(args.template)
        config = read_samconfig(args.template.parent, file=args.config_file, environment=args.config_env)
        given = parse_parameter_overrides(args.parameter_overrides)
        parameters = {**config.parameter_overrides(args.section), **given}
        template = load_template(args.template, parameters=parameters, fallbacks=config.parameter_overrides("deploy"))
    except TemplateError as error:
        print(f"warmfront doctor: {error}", file=sys.stderr)
        return 2
    limits = Limits(args.max_connections, args.kept_connections, args.account_concurrency)
    found = [*_of_template(template), *examine(template, limits)]
    shown = [finding for finding in found if args.all or finding.severity is not Severity.ADVICE]
    if args.json:
        print(json.dumps([asdict(finding) for finding in shown], indent=2))
    else:
        hidden = len(found) - len(shown)
        print_lines(render(template, shown, hidden=hidden))
    return 1 if any(finding.severity is not Severity.ADVICE for finding in found) else 0


def _of_template(template: Template) -> list[Finding]:
    """Mistakes in the template, the reader's warnings, and parts of it that the emulator does not serve or run."""
    found = [_of_message(each, Severity.ERROR, "correct the template") for each in template.problems]
    found += [_of_message(each, Severity.WARNING, "as the message says") for each in template.warnings]
    for function in template.functions.values():
        reason = not_runnable(function, with_node=True)  # whether Node is installed is no matter of the template
        if reason is not None and reason not in template.problems:
            fix = "test this function on AWS, or correct the template if this is a mistake"
            where, line = function.logical_id, function.line
            found.append(Finding("not runnable locally", Severity.WARNING, where, line, reason, fix))
    for each in unserved(template):
        fix = f"use instead: {each.instead}"
        found.append(Finding("not served locally", Severity.WARNING, each.where, each.line, each.what, fix))
    return found


def _of_message(message: str, severity: Severity, fix: str) -> Finding:
    """The reader's message FILE:LINE: [OWNER: ]TEXT as a finding."""
    match = re.match(r".*?:(\d+): (?:([^:]+): )?(.*)", message)
    line, owner, text = (int(match[1]), match[2] or "template", match[3]) if match else (0, "template", message)
    return Finding("template", severity, owner, line, text, fix)


def render(template: Template, found: Sequence[Finding], *, hidden: int) -> list[Text]:
    """Return the findings as lines, and a last line with their counts.

    Args:
        template: the template that was examined.
        found: the findings to show.
        hidden: the number of findings that only --all shows.
    """
    name = os.path.relpath(template.path)
    lines = []
    for finding in found:
        place = f"{name}:{finding.line}" if finding.line else name
        lines += [
            Text.assemble(
                (finding.severity.upper(), STYLES[finding.severity]), f" {finding.where} ({place}): {finding.rule}"
            ),
            Text(f"  {finding.message}"),
            Text(f"  fix: {finding.fix}"),
            Text(),
        ]
    counts = [(severity, sum(finding.severity is severity for finding in found)) for severity in Severity]
    summary = ", ".join(f"{count} {severity}{'s' if count > 1 and severity is not Severity.ADVICE else ''}"
                     for severity, count in counts if count)  # fmt: skip
    rest = f"; {hidden} more to weigh with --all" if hidden else ""
    return [*lines, Text(f"{name}, {len(template.functions)} functions: {summary or 'no mistakes found'}{rest}")]
