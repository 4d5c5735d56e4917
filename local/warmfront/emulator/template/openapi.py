"""Reads the x-amazon-apigateway extensions of an OpenAPI document: authorizers, integrations, validation, error responses.

docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-swagger-extensions.html
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from warmfront.emulator.template.config import (
    ApiKind,
    Authorizer,
    CorsConfig,
    JwtAuthorizer,
    LambdaAuthorizer,
    UnsupportedAuthorizer,
)
from warmfront.emulator.template.integrations import (
    GatewayResponse,
    HttpIntegration,
    Integration,
    IntegrationResponse,
    MockIntegration,
    ParameterMapping,
    RequestValidation,
)
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, text
from warmfront.emulator.template.values import Resolver

PREFIX: Final = "x-amazon-apigateway-"
IAM: Final = UnsupportedAuthorizer("AWS_IAM", "IAM (signature version 4)")
REST_AUTHORIZER_TTL_S: Final = 300
_USER_POOL_ARN: Final = re.compile(r"arn:[^:]+:cognito-idp:([^:]+):[^:]*:userpool/(.+)")
_PARAMETER_PLACES: Final = {"header": "header", "query": "querystring", "path": "path"}


class OpenApiDocument:
    """The document of one API; every part is empty where there is no document."""

    def __init__(self, body: Any, resolver: Resolver, owner: str, function_of: Callable[[str], str | None]) -> None:
        """`function_of` gives the logical id of the function that an integration URI names."""
        body = resolver.branch(body)
        self._body = Properties(body if isinstance(body, Node) else Node(), resolver, owner)
        self._resolver = resolver
        self._function_of = function_of
        self._schemes = self._body.section("securityDefinitions")
        if not self._schemes.raw:
            self._schemes = self._body.section("components").section("securitySchemes")
        if "security" in self._body:
            resolver.warn(
                f"{owner}: `security` at the root of its OpenAPI document is ignored, as by API Gateway; write it in each"
                " operation",
                self._body.line("security"),
            )

    # Security

    def authorizers(self, kind: ApiKind) -> dict[str, Authorizer]:
        """The security schemes that API Gateway makes authorizers of."""
        found: dict[str, Authorizer] = {}
        for name in self._schemes.raw:
            scheme = self._schemes.section(name)
            extension = scheme.section(f"{PREFIX}authorizer")
            if extension.raw:
                found[name] = (
                    self._http_authorizer(name, extension)
                    if kind == "http"
                    else self._rest_authorizer(name, scheme, extension)
                )
            elif scheme.text(f"{PREFIX}authtype").lower() == "awssigv4":
                found[name] = UnsupportedAuthorizer(name, IAM.what)
        return found

    def security(self, operation: Node) -> tuple[str | None, tuple[str, ...], bool]:
        """An operation's authorizer (NONE where it says so), its scopes, and whether it requires an API key."""
        authorizer: str | None = None
        scopes: tuple[str, ...] = ()
        key_required = False
        for name, own_scopes in _security_entries(operation):
            if self._is_api_key(name):
                key_required = True
            elif authorizer is None and not self._is_ignored(name):
                authorizer, scopes = name, own_scopes
        auth = Properties(operation, self._resolver, self._body.owner).section(f"{PREFIX}auth")
        if auth.text("type").upper() == "AWS_IAM":
            authorizer = IAM.name
        return authorizer, scopes, key_required

    def _is_api_key(self, name: str) -> bool:
        scheme = self._schemes.section(name) if name in self._schemes.raw else None
        if scheme is None or f"{PREFIX}authorizer" in scheme or f"{PREFIX}authtype" in scheme:
            return False
        return scheme.text("type") == "apiKey" and scheme.text("name").lower() == "x-api-key"

    def _is_ignored(self, name: str) -> bool:
        """API Gateway makes no authorizer of a scheme without its extension."""
        if name not in self._schemes.raw:
            return False
        scheme = self._schemes.section(name)
        return f"{PREFIX}authorizer" not in scheme and f"{PREFIX}authtype" not in scheme

    def _http_authorizer(self, name: str, extension: Properties) -> Authorizer:
        if extension.text("type").lower() == "jwt":
            jwt = extension.section("jwtConfiguration")
            sources = extension.texts("identitySource")
            return JwtAuthorizer(
                name=name,
                issuer=jwt.text("issuer"),
                audience=jwt.texts("audience"),
                identity_source=sources[0] if sources else "$request.header.Authorization",
            )
        payload = extension.text("authorizerPayloadFormatVersion", "1.0")
        return LambdaAuthorizer(
            name=name,
            function=self._function_of(extension.text("authorizerUri")),
            identity_sources=extension.texts("identitySource"),
            payload_format="2.0" if payload.startswith("2") else "1.0",
            simple_responses=extension.boolean("enableSimpleResponses"),
            ttl_s=extension.integer("authorizerResultTtlInSeconds", 0),
        )

    def _rest_authorizer(self, name: str, scheme: Properties, extension: Properties) -> Authorizer:
        kind = extension.text("type").lower()
        header = f"$request.header.{scheme.text('name', 'Authorization')}"
        if kind == "cognito_user_pools":
            return JwtAuthorizer(
                name=name, issuer=issuer_of(extension.texts("providerARNs")), audience=(), identity_source=header
            )
        sources = tuple(f"${source}" for source in extension.texts("identitySource"))
        return LambdaAuthorizer(
            name=name,
            function=self._function_of(extension.text("authorizerUri")),
            kind="request" if kind == "request" else "token",
            identity_sources=tuple(source.replace("$method.", "$") for source in sources)
            if kind == "request"
            else (header,),
            payload_format="1.0",
            ttl_s=extension.integer("authorizerResultTtlInSeconds", REST_AUTHORIZER_TTL_S),
            validation_expression=extension.optional_text("identityValidationExpression"),
        )

    # Integrations

    def integration(self, kind: ApiKind, properties: Properties) -> Integration | None:
        """An operation's integration where it is a mock or an HTTP backend; None: something else."""
        name = properties.text("type").lower()
        if name == "mock" and kind == "rest":
            return MockIntegration(_texts(properties, "requestTemplates"), tuple(_responses(properties)))
        if name == "http_proxy":
            method = properties.text("httpMethod", "ANY").upper()
            parameters = _texts(properties, "requestParameters") if kind == "rest" else {}
            return HttpIntegration(properties.text("uri"), method, parameters)
        return None

    def mapping(self, properties: Properties) -> ParameterMapping | None:
        """The parameter mapping of an HTTP API's integration."""
        request = _texts(properties, "requestParameters")
        section = properties.section("responseParameters")
        response = {int(status): _texts(section, status) for status in map(str, section.raw) if status.isdigit()}
        return ParameterMapping(request, response) if request or response else None

    # Validation

    def validation(self, operation: Node, path_item: Node) -> RequestValidation | None:
        """What the validator that an operation names checks; None: no validator, so nothing."""
        own = Properties(operation, self._resolver, self._body.owner)
        name = own.text(f"{PREFIX}request-validator", self._body.text(f"{PREFIX}request-validator"))
        validator = self._body.section(f"{PREFIX}request-validators").section(name) if name else None
        if validator is None:
            return None
        listed = [*_list(path_item.get("parameters")), *_list(operation.get("parameters"))]
        parameters = [Properties(each, self._resolver, self._body.owner) for each in listed]
        required: tuple[str, ...] = ()
        models: dict[str, object] = {}
        if validator.boolean("validateRequestParameters"):
            required = tuple(
                f"method.request.{_PARAMETER_PLACES[each.text('in')]}.{each.text('name')}"
                for each in parameters
                if each.boolean("required") and each.text("in") in _PARAMETER_PLACES
            )
        if validator.boolean("validateRequestBody"):
            models = dict(self._body_models(own, parameters))
        return RequestValidation(required, models)

    def _body_models(self, operation: Properties, parameters: list[Properties]) -> Iterator[tuple[str, object]]:
        for parameter in parameters:
            if parameter.text("in") == "body" and "schema" in parameter:
                for media_type in operation.texts("consumes") or ("application/json",):
                    yield media_type, self.schema(parameter.get("schema"))
        content = operation.section("requestBody").section("content")
        for media_type in content.raw:
            schema = content.section(media_type).get("schema")
            if schema is not None:
                yield media_type, self.schema(schema)

    def schema(self, schema: object) -> object:
        """A schema that holds all the document's models, so that its references lead somewhere."""
        models = self._body.get("definitions") or self._body.section("components").get("schemas") or {}
        return with_models(schema, models)

    # The API as a whole

    def cors(self) -> CorsConfig | None:
        """x-amazon-apigateway-cors of an HTTP API; None: the document has none."""
        section = self._body.section(f"{PREFIX}cors")
        if not section.raw:
            return None
        return CorsConfig(
            allow_origins=section.texts("allowOrigins"),
            allow_methods=tuple(method.upper() for method in section.texts("allowMethods")),
            allow_headers=tuple(header.lower() for header in section.texts("allowHeaders")),
            expose_headers=tuple(header.lower() for header in section.texts("exposeHeaders")),
            allow_credentials=section.boolean("allowCredentials"),
            max_age_s=section.optional_integer("maxAge"),
        )

    @property
    def binary_media_types(self) -> tuple[str, ...]:
        return self._body.texts(f"{PREFIX}binary-media-types")

    @property
    def api_key_source(self) -> str:
        return self._body.text(f"{PREFIX}api-key-source").upper()

    # Failures

    def gateway_responses(self) -> dict[str, GatewayResponse]:
        section = self._body.section(f"{PREFIX}gateway-responses")
        return {name: _gateway_response(section.section(name)) for name in section.raw}


def with_models(schema: object, models: Mapping[str, object]) -> object:
    """A JSON schema with `models` under definitions, and its references to models of API Gateway led there."""
    if not isinstance(schema, dict):
        return schema
    return {**_with_references(schema), "definitions": {name: _with_references(each) for name, each in models.items()}}


def _with_references(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: f"#/definitions/{entry.rpartition('/')[2]}"
            if key == "$ref" and isinstance(entry, str)
            else _with_references(entry)
            for key, entry in value.items()
        }
    return [_with_references(entry) for entry in value] if isinstance(value, list) else value


def issuer_of(arns: tuple[str, ...]) -> str:
    """The issuer of a user pool's tokens; empty where the pools have no local value, or are several."""
    match = _USER_POOL_ARN.fullmatch(arns[0]) if len(arns) == 1 else None
    return f"https://cognito-idp.{match.group(1)}.amazonaws.com/{match.group(2)}" if match else ""


def _gateway_response(properties: Properties) -> GatewayResponse:
    parameters = _texts(properties, "responseParameters")
    return GatewayResponse(
        status=properties.optional_integer("statusCode"),
        headers={name.removeprefix("gatewayresponse.header."): value for name, value in parameters.items()},
        templates=_texts(properties, "responseTemplates"),
    )


def _responses(properties: Properties) -> Iterator[IntegrationResponse]:
    section = properties.section("responses")
    for pattern in section.raw:
        response = section.section(pattern)
        yield IntegrationResponse(
            status=response.integer("statusCode", 200),
            pattern=None if pattern == "default" else str(pattern),
            parameters=_texts(response, "responseParameters"),
            templates=_texts(response, "responseTemplates"),
        )


def _security_entries(operation: Node) -> Iterator[tuple[str, tuple[str, ...]]]:
    security = operation.get("security")
    if isinstance(security, Node):  # not OpenAPI, but SAM takes it
        security = [security]
    for entry in security if isinstance(security, list) else ():
        for name, scopes in entry.items() if isinstance(entry, Node) else ():
            yield name, tuple(map(text, _list(scopes)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(properties: Properties, key: str) -> dict[str, str]:
    section = properties.section(key)
    return {name: section.text(name) for name in section.raw if name in section}
