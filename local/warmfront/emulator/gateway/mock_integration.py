"""Answers methods of REST APIs with a mock integration: a request template gives the status, a response the rest.

docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
"""

import json
import re
from typing import Any

from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.gateway.mapping_templates import evaluate
from warmfront.emulator.gateway.variables import parameter_value
from warmfront.emulator.template import IntegrationResponse, MockIntegration


class Mock:
    """The integration of one method."""

    def __init__(self, config: MockIntegration) -> None:
        self._config = config

    async def __call__(self, call: Call) -> Response:
        """The mock's response. Raises RefusedError."""
        status = self._status(call)
        found = self._response(status)
        media_type, template = _template(found, call)
        overrides: dict[str, Any] = {"header": {}, "status": None}
        body = evaluate(template, call, b"", overrides) if template is not None else ""
        headers = {b"content-type": media_type.encode()}
        for name, expression in found.parameters.items():
            value = parameter_value(expression, call)
            if value is not None:
                headers[name.rpartition(".")[2].lower().encode()] = value.encode("latin-1", "replace")
        for name, value in overrides["header"].items():
            headers[str(name).lower().encode()] = str(value).encode("latin-1", "replace")
        return Response(int(overrides["status"] or found.status), list(headers.items()), body.encode())

    def _status(self, call: Call) -> str:
        """The statusCode that the request template names."""
        templates = self._config.request_templates
        media_type = call.request.head.fields.get("content-type", "application/json").partition(";")[0].strip()
        template = templates.get(media_type, templates.get("application/json"))
        if template is None:
            raise RefusedError(Failure.UNSUPPORTED_MEDIA_TYPE, f"no request template for {media_type}")
        text = evaluate(template, call, call.request.body)
        try:
            return str(int(json.loads(text)["statusCode"]))
        except (ValueError, KeyError, TypeError):
            raise RefusedError(
                Failure.MISCONFIGURED, f"the mock's request template gives {text.strip()!r}, not {{statusCode: number}}"
            ) from None

    def _response(self, status: str) -> IntegrationResponse:
        responses = self._config.responses
        for each in responses:
            if each.pattern is not None and re.fullmatch(each.pattern, status):
                return each
        for each in responses:
            if each.pattern is None:
                return each
        raise RefusedError(Failure.MISCONFIGURED, f"the mock has no response for status {status}, and no default one")


def _template(response: IntegrationResponse, call: Call) -> tuple[str, str | None]:
    accept = call.request.head.fields.get("accept", "").partition(",")[0].partition(";")[0].strip()
    for media_type in (accept, "application/json", *response.templates):
        if media_type in response.templates:
            return media_type, response.templates[media_type]
    return "application/json", None
