"""Applies every rule to one template and sorts the findings, worst first."""

from warmfront.doctor import rules_function, rules_template
from warmfront.doctor.finding import Finding, Limits
from warmfront.emulator.template import Template


def examine(template: Template, limits: Limits) -> list[Finding]:
    found: list[Finding] = []
    for function in template.functions.values():
        for rule in rules_function.RULES:
            found += rule(function)
    for template_rule in rules_template.RULES:
        found += template_rule(template, limits)
    return sorted(found, key=lambda finding: (finding.severity.rank, finding.line, finding.where, finding.rule))
