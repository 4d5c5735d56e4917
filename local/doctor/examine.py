"""All rules over one template, worst first. Knows the rules' order and nothing of what they look for."""

from local.doctor import rules_function, rules_template
from local.doctor.finding import Finding, Limits
from local.template import Template


def examine(template: Template, limits: Limits) -> list[Finding]:
    found: list[Finding] = []
    for function in template.functions.values():
        for rule in rules_function.RULES:
            found += rule(function)
    for template_rule in rules_template.RULES:
        found += template_rule(template, limits)
    return sorted(found, key=lambda finding: (finding.severity.rank, finding.line, finding.where, finding.rule))
