"""The Lambda service: functions of a template as execution environments. Knows nothing of HTTP routes."""
