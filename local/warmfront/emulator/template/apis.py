"""Reads HTTP APIs, REST APIs and function URLs: their routes, authorizers, CORS and stages."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from warmfront.emulator.template.api_features import ApiFeatures
from warmfront.emulator.template.config import (
    Api,
    ApiKind,
    Authorizer,
    CorsConfig,
    FunctionConfig,
    FunctionUrlConfig,
    JwtAuthorizer,
    Route,
    Throttle,
)
from warmfront.emulator.template.definition import definition_body
from warmfront.emulator.template.functions import read_cors
from warmfront.emulator.template.openapi import IAM, OpenApiDocument
from warmfront.emulator.template.operations import ANY, OperationReader, payload_format, route_path, timeout_ms
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.sam_authorizers import DefaultAuthorizer, SamAuthorizers
from warmfront.emulator.template.source import Node, is_intrinsic, text
from warmfront.emulator.template.values import IMPLICIT_APIS, Resolver

API_TYPES: Final[Mapping[str, ApiKind]] = {"AWS::Serverless::HttpApi": "http", "AWS::Serverless::Api": "rest"}
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
        body = definition_body(properties, self._resolver, self._root)
        document = OpenApiDocument(body, self._resolver, logical_id, self.function_of_arn)
        features = ApiFeatures(logical_id, properties, self._resolver, self._resources)
        authorizers = {**document.authorizers(kind), **SamAuthorizers(self.function_of_arn).read(kind, auth)}
        if kind == "rest" and any(_names_iam(event) for event in events):  # needs no declaration, unlike an HTTP API's
            authorizers[IAM.name] = IAM
        default = DefaultAuthorizer(kind, auth, authorizers)
        operations = OperationReader(kind, properties, document, features, self.function_of_arn)
        routes = {(route.method, route.path): default.applied(route) for route in operations.routes(body)}
        if any(route.authorizer == IAM.name for route in routes.values()):
            authorizers.setdefault(IAM.name, IAM)
        for event in events:
            route = self._resolver.attempt(self._event_route, event, auth, authorizers, features)
            if route is not None:
                self._add_event(event, route, routes, operations, properties, body)
        own_cors = read_cors(properties, "CorsConfiguration") if kind == "http" else _rest_cors(properties)
        cors = own_cors or (document.cors() if kind == "http" else None)
        return Api(
            logical_id=logical_id,
            kind=kind,
            name=properties.text("Name", logical_id),
            stage=properties.text("StageName", "$default" if kind == "http" else "Prod"),
            routes=tuple(routes.values()),
            cors=cors,
            authorizers=authorizers,
            stage_variables=_texts(properties.section("StageVariables" if kind == "http" else "Variables")),
            throttle=_throttle(properties.section("DefaultRouteSettings")),
            route_throttles=_route_throttles(properties, kind),
            api_key_source="AUTHORIZER"
            if "AUTHORIZER" in (properties.text("ApiKeySourceType"), document.api_key_source)
            else "HEADER",
            usage_plans=features.usage_plans() if kind == "rest" else (),
            gateway_responses={**document.gateway_responses(), **features.gateway_responses()}
            if kind == "rest"
            else {},
            preflight_authorizer=default.of_preflights if kind == "rest" and cors is not None else None,
            binary_media_types=_unique(
                [each.replace("~1", "/") for each in properties.texts("BinaryMediaTypes")], document.binary_media_types
            ),
            access_log_format=properties.section(f"AccessLogSetting{'s' if kind == 'http' else ''}").text("Format"),
            line=resource.line,
        )

    # Routes

    def _add_event(
        self,
        event: ApiEvent,
        route: Route,
        routes: dict[tuple[str, str], Route],
        operations: OperationReader,
        properties: Properties,
        body: Any,
    ) -> None:
        """Add an event's route as SAM does: beside those of a document, or, of a REST API, only where it may be merged."""
        place = (route.method, route.path)
        defined = "DefinitionBody" in properties or "DefinitionUri" in properties
        merged = event.kind == "rest" and properties.boolean("MergeDefinitions")
        has_paths = isinstance(body, Node) and isinstance(body.get("paths"), Node)
        if not defined and place in routes:
            problem = event.properties.error("Path", f"gives {properties.owner} the route {route.key} a second time")
            self._resolver.problem(problem)
        elif event.kind == "rest" and defined and not (merged and has_paths) and place not in operations.integrated:
            self._resolver.warn(
                f"{event.function}: event {event.name} adds no route: the DefinitionBody of {properties.owner} lacks"
                f" {route.key}; write it there, or set MergeDefinitions: true",
                route.line,
            )
        elif merged:
            before = routes.get(place)
            if before is not None and route.authorizer is None:  # the merged operation keeps its own security
                route = dataclasses.replace(route, authorizer=before.authorizer, scopes=before.scopes)
            routes[place] = route
        elif place in routes:
            own = event.properties.section("Auth")
            if "Authorizer" in own and (event.kind == "http" or own.boolean("OverrideApiAuth")):
                routes[place] = dataclasses.replace(routes[place], authorizer=route.authorizer, scopes=route.scopes)
        elif place not in operations.integrated:
            if place in operations.secured and "Authorizer" not in event.properties.section("Auth"):
                authorizer, scopes = operations.secured[place]
                route = dataclasses.replace(route, authorizer=authorizer, scopes=scopes)
            routes[place] = route

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
        rest = event.kind == "rest"
        return Route(
            method="ANY" if method.lower() in ANY else method.upper(),
            path=route_path(path),
            function=event.function,
            payload_format="1.0" if rest else payload_format(properties, "PayloadFormatVersion", "2.0"),
            authorizer=authorizer,
            scopes=scopes,
            timeout_ms=properties.integer("TimeoutInMillis", timeout_ms(event.kind)),
            api_key_required=rest and properties.section("Auth").boolean("ApiKeyRequired", features.api_key_required),
            validation=features.validation(properties) if rest else None,
            line=properties.raw.line,
        )

    def _check_path(self, path: str, properties: Properties) -> None:
        if path != "$default" and not _PATH.fullmatch(path):
            raise properties.error(
                "Path", f"{path} is no route: it begins with /, a {{name}} fills a segment, a {{name+}} ends it"
            )

    def _event_authorizer(
        self, event: ApiEvent, auth: Properties, authorizers: Mapping[str, Authorizer]
    ) -> tuple[str | None, tuple[str, ...]]:
        own = event.properties.section("Auth")
        preflight = event.kind == "http" and event.properties.text("Method").upper() == "OPTIONS"
        name = own.text("Authorizer", "" if preflight else auth.text("DefaultAuthorizer"))
        if not name or name == "NONE":
            return None, ()
        if name not in authorizers:
            raise own.error("Authorizer", f"names {name}, which is not under Auth/Authorizers of its API")
        configured = authorizers[name]
        inherited = configured.scopes if isinstance(configured, JwtAuthorizer) else ()
        return name, own.texts("AuthorizationScopes") if "AuthorizationScopes" in own else inherited

    def function_of_arn(self, arn: str) -> str | None:
        """The logical id of the function an ARN or integration URI names."""
        match = _FUNCTION_ARN.search(arn)
        name = match.group(1) if match else arn
        if name in self._functions:
            return name
        return next((f.logical_id for f in self._functions.values() if f.function_name == name), None)


def _names_iam(event: ApiEvent) -> bool:
    return event.properties.section("Auth").text("Authorizer") == "AWS_IAM"


def _unique(*lists: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry for each in lists for entry in each))


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
