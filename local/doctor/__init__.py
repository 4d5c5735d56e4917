"""`warmfront doctor`: mistakes that a template's settings show before anything runs. Starts nothing, changes nothing."""

from local.doctor.command import add_arguments, run
from local.doctor.examine import examine
from local.doctor.finding import Finding, Limits, Severity

__all__ = ["Finding", "Limits", "Severity", "add_arguments", "examine", "run"]
