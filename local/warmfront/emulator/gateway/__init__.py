"""What API Gateway and function URLs do in front of Lambda: HTTP requests in, invocations out."""

from warmfront.emulator.gateway.app import GatewayApp, create_apps
from warmfront.emulator.gateway.options import GatewayOptions

__all__ = ["GatewayApp", "GatewayOptions", "create_apps"]
