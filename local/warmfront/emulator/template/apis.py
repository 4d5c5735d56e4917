"""Reads HTTP APIs, REST APIs and function URLs: their routes, authorizers, CORS and stages."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from warmfront.emulator.template.api_features import ApiFeatures
from warmfront.emulator.template.config import (
    Api,
    ApiKind,
    Authorizer,
    CorsConfig,
    FunctionConfig,
    FunctionUrlConfig,
    JwtAuthorizer,
    LambdaAuthorizer,
    PayloadFormat,
    Route,
    Throttle,
)
from warmfront.emulator.template.functions import read_cors
from warmfront.emulator.template.openapi import IAM, REST_AUTHORIZER_TTL_S, OpenApiDocument, issuer_of
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, is_intrinsic, read, text
from warmfront.emulator.template.values import IMPLICIT_APIS, Resolver

API_TYPES: Final[Mapping[str, ApiKind]] = {"AWS::Serverless::HttpApi": "http", "AWS::Serverless::Api": "rest"}
HTTP_TIMEOUT_MS: Final = 30_000
REST_TIMEOUT_MS: Final = 29_000
_ANY: Final = ("any", "x-amazon-apigateway-any-method")
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", *_ANY)
_FUNCTION_ARN: Final = re.compile(r":function:([A-Za-z0-9_-]+)")
_PATH: Final = re.compile(r"/(?:[^/{}]*|\{[^{}/+]+\})(?:/(?:[^/{}]*|\{[^{}/+]+\}))*(?:/?\{[^{}/]+\+\})?")


@dataclass(frozen=True, slots=True)
class ApiEvent:
    """An Api or HttpApi event of a function, before it is known which API it belongs to."""

    function: str
    name: str
    kind: ApiKind
    properties: Properties


class ApiReader:
    """Makes Apis of resources and the events that point at them."""

    def __init__(
        self,
        resolver: Resolver,
        resources: Mapping[str, tuple[Node, Node]],
        functions: Mapping[str, FunctionConfig],
        root: Path,
    ) -> None:
        self._resolver = resolver
        self._resources = resources
        self._functions = functions
        self._root = root

    def read(self, events: Iterable[ApiEvent], implicit: Mapping[str, Node]) -> tuple[Api, ...]:
        """All APIs in the template's order, implicit ones after them, function URLs last."""
        by_api: dict[str, list[ApiEvent]] = {}
        for event in events:
            target = self._resolver.attempt(self._target, event)
            if target is not None:
                by_api.setdefault(target, []).append(event)
        apis: list[Api | None] = []
        for logical_id, (resource, raw) in self._resources.items():
            kind = API_TYPES.get(str(resource.get("Type")))
            if kind is not None:
                apis.append(
                    self._resolver.attempt(self._api, logical_id, kind, raw, resource, by_api.pop(logical_id, []))
                )
        for logical_id, its_events in by_api.items():
            raw = implicit[logical_id]
            kind = API_TYPES[IMPLICIT_APIS[logical_id]]
            apis.append(self._resolver.attempt(self._api, logical_id, kind, raw, raw, its_events))
        for function in self._functions.values():
            if function.function_url is not None:
                apis.append(_function_url_api(function, function.function_url))
                if function.function_url.invoke_mode == "RESPONSE_STREAM":
                    self._resolver.warn(
                        f"{function.logical_id}: InvokeMode RESPONSE_STREAM is not emulated; its answers are buffered",
                        function.line,
                    )
        return tuple(api for api in apis if api is not None)

    def _target(self, event: ApiEvent) -> str | None:
        """The logical id of the event's API; None, with a warning, where that is not in this template."""
        key, implicit = ("ApiId", "ServerlessHttpApi") if event.kind == "http" else ("RestApiId", "ServerlessRestApi")
        reference = event.properties.branch(key)
        if reference is None:
            return implicit
        logical_id = self._referenced(reference)
        resource = self._resources.get(logical_id)
        if resource is None and logical_id == implicit:
            return implicit
        if resource is None and is_intrinsic(reference):
            self._resolver.warn(
                f"{event.function}: event {event.name} is not served: its API is in another stack;"
                " leave {key} out locally, or serve that stack's template".replace("{key}", key),
                event.properties.line(key),
            )
            return None
        if resource is None or API_TYPES.get(str(resource[0].get("Type"))) != event.kind:
            wanted = "AWS::Serverless::HttpApi" if event.kind == "http" else "AWS::Serverless::Api"
            raise event.properties.error(key, f"must be a !Ref to an {wanted} of this template")
        return str(logical_id)

    def _referenced(self, reference: Any) -> str:
        """The logical id that a Ref names; a parameter's value may be one too."""
        if not is_intrinsic(reference):
            return text(reference)
        name = str(reference.get("Ref", ""))
        if name and name not in self._resources and name in self._resolver.parameters:
            return self._resolver.parameters[name]
        return name

    def _api(self, logical_id: str, kind: ApiKind, raw: Node, resource: Node, events: list[ApiEvent]) -> Api:
        properties = Properties(raw, self._resolver, logical_id)
        auth = properties.section("Auth")
        document = OpenApiDocument(self._definition_body(properties), self._resolver, logical_id, self.function_of_arn)
        features = ApiFeatures(logical_id, properties, self._resolver, self._resources)
        authorizers = {**document.authorizers(kind), **self._authorizers(kind, auth)}
        if kind == "rest" and any(_names_iam(event) for event in events):  # needs no declaration, unlike an HTTP API's
            authorizers[IAM.name] = IAM
        default = _DefaultAuthorizer(auth, authorizers)
        routes = [default.applied(route) for route in self._definition_routes(kind, properties, document)]
        if any(route.authorizer == IAM.name for route in routes):
            authorizers.setdefault(IAM.name, IAM)
        known = {(route.method, route.path) for route in routes}
        for event in events:
            route = self._resolver.attempt(self._event_route, event, auth, authorizers, features)
            if route is None:
                continue
            if (route.method, route.path) not in known:
                routes.append(route)
                known.add((route.method, route.path))
            elif "DefinitionBody" not in properties and "DefinitionUri" not in properties:
                problem = event.properties.error("Path", f"gives {logical_id} the route {route.key} a second time")
                self._resolver.problem(problem)
        cors = read_cors(properties, "CorsConfiguration") if kind == "http" else _rest_cors(properties)
        return Api(
            logical_id=logical_id,
            kind=kind,
            name=properties.text("Name", logical_id),
            stage=properties.text("StageName", "$default" if kind == "http" else "Prod"),
            routes=tuple(routes),
            cors=cors,
            authorizers=authorizers,
            stage_variables=_texts(properties.section("StageVariables" if kind == "http" else "Variables")),
            throttle=_throttle(properties.section("DefaultRouteSettings")),
            route_throttles=_route_throttles(properties, kind),
            api_key_source="AUTHORIZER" if properties.text("ApiKeySourceType") == "AUTHORIZER" else "HEADER",
            usage_plans=features.usage_plans() if kind == "rest" else (),
            gateway_responses={**document.gateway_responses(), **features.gateway_responses()}
            if kind == "rest"
            else {},
            preflight_authorizer=default.of_preflights if kind == "rest" and cors is not None else None,
            binary_media_types=tuple(entry.replace("~1", "/") for entry in properties.texts("BinaryMediaTypes")),
            access_log_format=properties.section(f"AccessLogSetting{'s' if kind == 'http' else ''}").text("Format"),
            line=resource.line,
        )

    # Routes

    def _event_route(
        self, event: ApiEvent, auth: Properties, authorizers: Mapping[str, Authorizer], features: ApiFeatures
    ) -> Route:
        properties = event.properties
        path, method = properties.text("Path"), properties.text("Method")
        if event.kind == "http" and not path and not method:
            path, method = "$default", "any"
        if not path or not method:
            raise properties.error("Path", "and Method belong together; give both")
        self._check_path(path, properties)
        authorizer, scopes = self._event_authorizer(event, auth, authorizers)
        payload: PayloadFormat = "1.0" if event.kind == "rest" else "2.0"
        if event.kind == "http" and "PayloadFormatVersion" in properties:
            payload = self._payload_format(properties, properties.text("PayloadFormatVersion"))
        return Route(
            method="ANY" if method.lower() in _ANY else method.upper(),
            path=path,
            function=event.function,
            payload_format=payload,
            authorizer=authorizer,
            scopes=scopes,
            timeout_ms=properties.integer("TimeoutInMillis", _timeout_ms(event.kind)),
            api_key_required=event.kind == "rest"
            and properties.section("Auth").boolean("ApiKeyRequired", features.api_key_required),
            validation=features.validation(properties) if event.kind == "rest" else None,
            line=properties.raw.line,
        )

    def _check_path(self, path: str, properties: Properties) -> None:
        if path != "$default" and not _PATH.fullmatch(path):
            raise properties.error(
                "Path", f"{path} is no route: it begins with /, a {{name}} fills a segment, a {{name+}} ends it"
            )

    def _payload_format(self, properties: Properties, value: str) -> PayloadFormat:
        if value in ("1.0", "1"):  # an unquoted 1.0 is a YAML float
            return "1.0"
        if value in ("2.0", "2"):
            return "2.0"
        raise properties.error("PayloadFormatVersion", f"is {value}, but there are only '1.0' and '2.0'")

    def _event_authorizer(
        self, event: ApiEvent, auth: Properties, authorizers: Mapping[str, Authorizer]
    ) -> tuple[str | None, tuple[str, ...]]:
        own = event.properties.section("Auth")
        default = auth.text("DefaultAuthorizer")
        name = own.text("Authorizer", default)
        if not name or name == "NONE":
            return None, ()
        if name not in authorizers:
            raise own.error("Authorizer", f"names {name}, which is not under Auth/Authorizers of its API")
        configured = authorizers[name]
        inherited = configured.scopes if isinstance(configured, JwtAuthorizer) else ()
        return name, own.texts("AuthorizationScopes") if "AuthorizationScopes" in own else inherited

    # Routes written as OpenAPI

    def _definition_routes(self, kind: ApiKind, properties: Properties, document: OpenApiDocument) -> list[Route]:
        body = self._definition_body(properties)
        paths = body.get("paths") if isinstance(body, Node) else None
        if not isinstance(paths, Node):
            return []
        routes = []
        for path, item in paths.items():
            item = self._resolver.branch(item)
            for method, operation in item.items() if isinstance(item, Node) else ():
                operation = self._resolver.branch(operation)
                if method in _METHODS and isinstance(operation, Node):
                    routes += self._operation_route(kind, properties, document, (path, item), (method, operation))
        return routes

    def _definition_body(self, properties: Properties) -> Any:
        body = properties.branch("DefinitionBody")
        if is_intrinsic(body) and "Fn::Transform" in body:
            include = Properties(body["Fn::Transform"], self._resolver, f"{properties.owner}: DefinitionBody")
            return self._definition_file(properties, include.section("Parameters").text("Location"))
        if body is None and "DefinitionUri" in properties:
            where = properties.branch("DefinitionUri")
            in_s3 = isinstance(where, dict) and not is_intrinsic(where)
            return self._definition_file(properties, "s3://" if in_s3 else properties.text("DefinitionUri"))
        return body

    def _definition_file(self, properties: Properties, location: str) -> Any:
        if location.startswith(("s3://", "https://")):
            self._resolver.warn(
                f"{properties.owner}: its OpenAPI document is in S3 or on the web, so its routes are not served;"
                " name a file beside the template",
                properties.raw.line,
            )
            return None
        path = self._root / location
        if not path.is_file():
            key = "DefinitionUri" if "DefinitionUri" in properties else "DefinitionBody"
            raise properties.error(key, f"names {path}, which does not exist")
        document, _ = read(path)
        return document

    def _operation_route(
        self,
        kind: ApiKind,
        properties: Properties,
        document: OpenApiDocument,
        at: tuple[str, Node],
        what: tuple[str, Node],
    ) -> list[Route]:
        (path, item), (method, operation) = at, what
        found = self._resolver.branch(operation.get("x-amazon-apigateway-integration"))
        if not isinstance(found, Node):
            return []
        where = Properties(found, self._resolver, f"{properties.owner}: {method.upper()} {path}")
        integration = document.integration(kind, where)
        function: str | None = ""
        if integration is None:
            function = self._integrated_function(where, operation)
        if function is None:
            return []
        authorizer, scopes, key_required = document.security(
            operation
        )  # NONE is kept: it wins over a DefaultAuthorizer
        payload = self._payload_format(where, where.text("payloadFormatVersion", "1.0")) if kind == "http" else "1.0"
        rest = kind == "rest"
        features = ApiFeatures(properties.owner, properties, self._resolver, self._resources)
        return [
            Route(
                method="ANY" if method in _ANY else method.upper(),
                path="$default" if path == "/$default" else path,
                function=function,
                payload_format=payload,
                authorizer=authorizer,
                scopes=scopes,
                timeout_ms=where.integer("timeoutInMillis", _timeout_ms(kind)),
                integration=integration,
                api_key_required=rest and (key_required or features.api_key_required),
                validation=document.validation(operation, item) if rest else None,
                mapping=None if rest else document.mapping(where),
                line=operation.line,
            )
        ]

    def _integrated_function(self, where: Properties, operation: Node) -> str | None:
        """The logical id of an operation's function; None, with a warning, where it has none that can be served."""
        kind = where.text("type").lower()
        if kind != "aws_proxy":
            self._resolver.warn(
                f"{where.owner} integrates {kind or 'nothing'}; only aws_proxy (Lambda), http_proxy and mock are served",
                operation.line,
            )
            return None
        function = self.function_of_arn(where.text("uri"))
        if function is None:
            self._resolver.warn(f"{where.owner} integrates a function that is not in this template", operation.line)
        return function

    def function_of_arn(self, arn: str) -> str | None:
        """The logical id of the function an ARN or integration URI names."""
        match = _FUNCTION_ARN.search(arn)
        name = match.group(1) if match else arn
        if name in self._functions:
            return name
        return next((f.logical_id for f in self._functions.values() if f.function_name == name), None)

    # Authorizers

    def _authorizers(self, kind: ApiKind, auth: Properties) -> dict[str, Authorizer]:
        section = auth.section("Authorizers")
        authorizers: dict[str, Authorizer] = {}
        for name in section.raw:
            read_one = self._http_authorizer if kind == "http" else self._rest_authorizer
            authorizers[name] = read_one(name, section.section(name))
        if auth.boolean("EnableIamAuthorizer") or auth.text("DefaultAuthorizer") == "AWS_IAM":
            authorizers["AWS_IAM"] = IAM
        return authorizers

    def _http_authorizer(self, name: str, properties: Properties) -> Authorizer:
        jwt = _lower_keys(properties.section("JwtConfiguration"))
        if jwt.raw:
            return JwtAuthorizer(
                name=name,
                issuer=jwt.text("issuer"),
                audience=jwt.texts("audience"),
                identity_source=properties.text("IdentitySource", "$request.header.Authorization"),
                scopes=properties.texts("AuthorizationScopes"),
            )
        identity = properties.section("Identity")
        return LambdaAuthorizer(
            name=name,
            function=self.function_of_arn(properties.text("FunctionArn")),
            identity_sources=_identity_sources(identity, "$request.header.", "$request.querystring."),
            payload_format=self._payload_format(properties, properties.text("AuthorizerPayloadFormatVersion", "1.0")),
            simple_responses=properties.boolean("EnableSimpleResponses"),
            ttl_s=identity.integer("ReauthorizeEvery", 0),
        )

    def _rest_authorizer(self, name: str, properties: Properties) -> Authorizer:
        if "UserPoolArn" in properties:
            return _cognito(name, properties)
        identity = properties.section("Identity")
        kind: Literal["token", "request"] = (
            "request" if properties.text("FunctionPayloadType", "TOKEN").upper() == "REQUEST" else "token"
        )
        sources = (
            (f"$request.header.{identity.text('Header', 'Authorization')}",)
            if kind == "token"
            else _identity_sources(identity, "$request.header.", "$request.querystring.")
        )
        return LambdaAuthorizer(
            name=name,
            function=self.function_of_arn(properties.text("FunctionArn")),
            kind=kind,
            identity_sources=sources,
            payload_format="1.0",
            ttl_s=identity.integer("ReauthorizeEvery", REST_AUTHORIZER_TTL_S),
            validation_expression=identity.optional_text("ValidationExpression"),
        )


def _names_iam(event: ApiEvent) -> bool:
    return event.properties.section("Auth").text("Authorizer") == "AWS_IAM"


class _DefaultAuthorizer:
    """SAM's DefaultAuthorizer, which stands before every operation that names no authorizer of its own.

    Follows aws-sam-translator, swagger/swagger.py set_path_default_authorizer: NONE opens an operation, OPTIONS is left
    out where AddDefaultAuthorizerToCorsPreflight is false.
    """

    def __init__(self, auth: Properties, authorizers: Mapping[str, Authorizer]) -> None:
        self._name = auth.text("DefaultAuthorizer")
        self._name = "" if self._name == "NONE" else self._name
        self._authorizers = authorizers
        preflights = auth.boolean("AddDefaultAuthorizerToCorsPreflight", True)
        self.of_preflights = self._name if self._name and preflights else None

    def applied(self, route: Route) -> Route:
        """A route of an OpenAPI document with the authorizer that really stands before it."""
        if route.authorizer == "NONE":
            return dataclasses.replace(route, authorizer=None, scopes=())
        if not self._name or route.authorizer in self._authorizers:
            return route
        if route.method == "OPTIONS" and self.of_preflights is None:
            return route
        configured = self._authorizers.get(self._name)
        scopes = configured.scopes if isinstance(configured, JwtAuthorizer) else ()
        return dataclasses.replace(route, authorizer=self._name, scopes=scopes)


def _cognito(name: str, properties: Properties) -> JwtAuthorizer:
    """A user pool's tokens are JWTs; its issuer follows from its ARN, where that is known."""
    arns = properties.texts("UserPoolArn")
    header = properties.section("Identity").text("Header", "Authorization")
    return JwtAuthorizer(
        name=name,
        issuer=issuer_of(arns),
        audience=(),
        identity_source=f"$request.header.{header}",
        scopes=properties.texts("AuthorizationScopes"),
    )


def _timeout_ms(kind: ApiKind) -> int:
    return HTTP_TIMEOUT_MS if kind == "http" else REST_TIMEOUT_MS


def _identity_sources(identity: Properties, header: str, query: str) -> tuple[str, ...]:
    prefixes = {"Headers": header, "QueryStrings": query, "StageVariables": "$stageVariables.", "Context": "$context."}
    return tuple(prefix + value for key, prefix in prefixes.items() for value in identity.texts(key))


def _lower_keys(properties: Properties) -> Properties:
    """JwtConfiguration is written with either case of its keys; SAM takes both."""
    raw = properties.raw
    lowered = Node({key.lower(): value for key, value in raw.items()}, line=raw.line)
    return Properties(lowered, properties.resolver, properties.owner)


def _texts(properties: Properties) -> dict[str, str]:
    return {key: properties.text(key) for key in properties.raw if key in properties}


def _throttle(properties: Properties) -> Throttle | None:
    rate = properties.optional_number("ThrottlingRateLimit")
    burst = properties.optional_integer("ThrottlingBurstLimit")
    return None if rate is None and burst is None else Throttle(rate_per_s=rate, burst=burst)


def _route_throttles(properties: Properties, kind: ApiKind) -> dict[str, Throttle]:
    if kind == "rest":
        return {}
    section = properties.section("RouteSettings")
    throttles = {key: _throttle(section.section(key)) for key in section.raw}
    return {key: throttle for key, throttle in throttles.items() if throttle is not None}


def _rest_cors(properties: Properties) -> CorsConfig | None:
    """REST APIs write CORS values as quoted literals: "'*'"."""
    value = properties.branch("Cors")
    if value is None:
        return None
    if not isinstance(value, dict) or is_intrinsic(value):
        return CorsConfig(allow_origins=(_unquoted(properties.text("Cors")),))
    section = properties.section("Cors")
    return CorsConfig(
        allow_origins=_quoted_list(section.text("AllowOrigin")),
        allow_methods=_quoted_list(section.text("AllowMethods")),
        allow_headers=_quoted_list(section.text("AllowHeaders")),
        allow_credentials=section.boolean("AllowCredentials"),
        max_age_s=int(age) if (age := _unquoted(section.text("MaxAge"))).isdigit() else None,
    )


def _unquoted(value: str) -> str:
    return value.strip().strip("'")


def _quoted_list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _unquoted(value).split(",") if part.strip())


def _function_url_api(function: FunctionConfig, config: FunctionUrlConfig) -> Api:
    authorizers: dict[str, Authorizer] = {}
    if config.auth_type == "AWS_IAM":
        authorizers["AWS_IAM"] = IAM
    route = Route(
        method="ANY",
        path="$default",
        function=function.logical_id,
        authorizer="AWS_IAM" if authorizers else None,
        timeout_ms=900_000,  # a function URL waits as long as its function may run
        line=function.line,
    )
    return Api(
        logical_id=f"{function.logical_id}Url",
        kind="url",
        name=function.function_name,
        routes=(route,),
        cors=config.cors,
        authorizers=authorizers,
        line=function.line,
    )
