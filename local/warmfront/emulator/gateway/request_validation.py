"""Validates requests to REST APIs: required parameters, and bodies against their models.

docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html
"""

import json
from typing import Any, Final

from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call
from warmfront.emulator.gateway.variables import header_value, query_value
from warmfront.emulator.template import RequestValidation, TemplateError

_ANY_TYPE: Final = "$default"


class RequestValidator:
    """The step that validates requests of one method."""

    def __init__(self, config: RequestValidation, owner: str) -> None:
        """`owner` names the method in errors. Raises TemplateError where a model is no JSON schema."""
        self._parameters = config.parameters
        self._models = {media_type: _compiled(schema, owner) for media_type, schema in config.models.items()}

    async def __call__(self, call: Call) -> Call:
        missing = [name.rpartition(".")[2] for name in self._parameters if not _present(name, call)]
        if missing:
            message = f"Missing required request parameters: [{', '.join(missing)}]"
            raise RefusedError(Failure.BAD_PARAMETERS, message, message=message)
        if self._models:
            self._check_body(call)
        return call

    def _check_body(self, call: Call) -> None:
        media_type = call.request.head.fields.get("content-type", "application/json").partition(";")[0].strip().lower()
        model = self._models.get(media_type, self._models.get(_ANY_TYPE))
        if model is None:
            return  # API Gateway validates bodies of the types that have a model only
        try:
            body = json.loads(call.request.body)
        except ValueError as error:
            raise RefusedError(Failure.BAD_BODY, f"it is no JSON: {error}") from None
        misfit = next(iter(model.iter_errors(body)), None)
        if misfit is not None:
            raise RefusedError(Failure.BAD_BODY, f"{misfit.json_path}: {misfit.message}")


def _compiled(schema: object, owner: str) -> Any:
    import jsonschema  # takes 40 ms, and few templates have a model

    try:
        jsonschema.Draft4Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise TemplateError(f"{owner}: its request model is no JSON schema of draft 4: {error.message}") from None
    return jsonschema.Draft4Validator(schema)


def _present(name: str, call: Call) -> bool:
    kind, _, key = name.rpartition(".")
    if kind.endswith("querystring"):
        return query_value(call, key) is not None
    if kind.endswith("path"):
        return key in (call.path_parameters or {})
    return header_value(call, key) is not None
