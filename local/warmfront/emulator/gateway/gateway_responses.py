"""Responses to requests that fail in the gateway: a REST API's GatewayResponses, or what API Gateway says by itself.

docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html
"""

import json
import re
from typing import Final

from warmfront.emulator.gateway.dialects import FAILURES, RESPONSE_TYPES, Failure
from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.gateway.variables import context_value, parameter_value
from warmfront.emulator.template import Api, GatewayResponse

_VARIABLE: Final = re.compile(r"\$(context|stageVariables)\.([A-Za-z0-9_.-]*[A-Za-z0-9_])")


class FailureResponses:
    """The responses of one API, by failure."""

    def __init__(self, api: Api) -> None:
        self.plain = FAILURES[api.kind]
        self._custom = api.gateway_responses
        self.customised = bool(self._custom)
        """Whether a failure's response may depend on the request."""

    def response(self, failure: Failure, call: Call, *, message: str | None = None) -> Response:
        """The response to a request; `message` takes the place of the failure's own text."""
        plain = self.plain[failure]
        if message is not None:
            plain = plain._replace(body=b'{"message": %b}' % json.dumps(message).encode())
        if not self.customised:
            return plain
        name = RESPONSE_TYPES[failure]
        found = self._custom.get(name) or self._custom.get(f"DEFAULT_{plain.status // 100}XX")
        return _custom(found, name, plain, call) if found is not None else plain


def _custom(custom: GatewayResponse, name: str, plain: Response, call: Call) -> Response:
    headers = dict(plain.headers)
    body = plain.body
    media_type, template = _template(custom, call)
    if template is not None:
        headers[b"content-type"] = media_type.encode()
        body = _fill(template, name, plain, call).encode()
    for header, expression in custom.headers.items():
        value = parameter_value(expression, call)
        if value is not None:
            headers[header.lower().encode()] = value.encode("latin-1", "replace")
    return Response(custom.status or plain.status, list(headers.items()), body)


def _template(custom: GatewayResponse, call: Call) -> tuple[str, str | None]:
    """The template of the media type that the client accepts, else the one for JSON, else the first."""
    accept = call.request.head.fields.get("accept", "").partition(",")[0].partition(";")[0].strip()
    for media_type in (accept, "application/json", *custom.templates):
        if media_type in custom.templates:
            return media_type, custom.templates[media_type]
    return "application/json", None


def _fill(template: str, name: str, plain: Response, call: Call) -> str:
    try:
        about = json.loads(plain.body)
        message = about.get("message", about.get("Message"))
    except ValueError:
        message = plain.body.decode("utf-8", "replace")
    errors = {
        "error.message": "" if message is None else str(message),
        "error.messageString": json.dumps(message),
        "error.responseType": name,
        "error.validationErrorString": "" if message is None else str(message),
    }

    def value(match: re.Match[str]) -> str:
        if match[1] == "stageVariables":
            return (call.context.stage_variables or {}).get(match[2], "")
        found = errors.get(match[2], context_value(call, match[2]))
        return "" if found is None else found

    return _VARIABLE.sub(value, template)
