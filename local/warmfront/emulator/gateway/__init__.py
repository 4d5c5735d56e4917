"""HTTP in, invocations out: what API Gateway and function URLs do in front of Lambda. Knows no process and no SAM."""

from warmfront.emulator.gateway.app import GatewayApp, GatewayOptions, create_apps

__all__ = ["GatewayApp", "GatewayOptions", "create_apps"]
