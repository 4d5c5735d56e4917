"""The Lambda service: functions of a template as execution environments."""
