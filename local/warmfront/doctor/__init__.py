"""Finds dangerous defaults and contradictions in a template before anything runs."""

from warmfront.doctor.examine import examine
from warmfront.doctor.finding import Finding, Limits, Severity

__all__ = ["Finding", "Limits", "Severity", "examine"]
