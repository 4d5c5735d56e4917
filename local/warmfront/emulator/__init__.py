"""Runs a template as Lambda and API Gateway would: compose.py puts the parts together."""
