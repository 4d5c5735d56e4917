"""Reads the operations of an OpenAPI document as routes."""

from collections.abc import Callable
from typing import Any, Final

from warmfront.emulator.template.api_features import ApiFeatures
from warmfront.emulator.template.config import ApiKind, PayloadFormat, Route
from warmfront.emulator.template.openapi import OpenApiDocument
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node

HTTP_TIMEOUT_MS: Final = 30_000
REST_TIMEOUT_MS: Final = 29_000
ANY: Final = ("any", "x-amazon-apigateway-any-method")
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", *ANY)


class OperationReader:
    """Reads the paths of one API's document."""

    def __init__(
        self,
        kind: ApiKind,
        properties: Properties,
        document: OpenApiDocument,
        features: ApiFeatures,
        function_of: Callable[[str], str | None],
    ) -> None:
        """`function_of` gives the logical id of the function that an integration URI names."""
        self._kind, self._properties, self._document, self._features = kind, properties, document, features
        self._function_of = function_of
        self._resolver = properties.resolver
        self.integrated: set[tuple[str, str]] = set()
        """Method and path of every operation that has an integration, be it served or not."""
        self.secured: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
        """Authorizer and scopes of operations without an integration, which an event adds."""

    def routes(self, body: Any) -> list[Route]:
        """One route for each operation that can be served. The others are warnings and problems."""
        paths = self._resolver.branch(body.get("paths")) if isinstance(body, Node) else None
        routes = []
        for path, item in paths.items() if isinstance(paths, Node) else ():
            item = self._resolver.branch(item)
            for method, operation in item.items() if isinstance(item, Node) else ():
                operation = self._resolver.branch(operation)
                if method.lower() in _METHODS and isinstance(operation, Node):
                    route = self._resolver.attempt(self._route, path, item, method.lower(), operation)
                    routes += [route] if route is not None else []
        return routes

    def _route(self, path: str, item: Node, method: str, operation: Node) -> Route | None:
        found = self._resolver.branch(operation.get("x-amazon-apigateway-integration"))
        place = ("ANY" if method in ANY else method.upper(), route_path(path))
        if not isinstance(found, Node):
            authorizer, scopes, _ = self._document.security(operation)
            if authorizer is not None:
                self.secured[place] = (authorizer, scopes)
            return None
        self.integrated.add(place)
        rest = self._kind == "rest"
        where = Properties(found, self._resolver, f"{self._properties.owner}: {method.upper()} {path}")
        integration = self._document.integration(self._kind, where)
        function = "" if integration is not None else self._function(where, operation)
        if function is None:
            return None
        # NONE is kept as an authorizer: it wins over a DefaultAuthorizer
        authorizer, scopes, key_required = self._document.security(operation)
        return Route(
            method=place[0],
            path=place[1],
            function=function,
            payload_format="1.0" if rest else payload_format(where, "payloadFormatVersion", "1.0"),
            authorizer=authorizer,
            scopes=scopes,
            timeout_ms=where.integer("timeoutInMillis", timeout_ms(self._kind)),
            integration=integration,
            api_key_required=rest and (key_required or self._features.api_key_required),
            validation=self._document.validation(operation, item) if rest else None,
            mapping=None if rest else self._document.mapping(where),
            line=operation.line,
        )

    def _function(self, where: Properties, operation: Node) -> str | None:
        """The logical id of an operation's function; None, with a warning, where it has none that can be served."""
        kind, service = where.text("type").lower(), where.text("integrationSubtype")
        if kind != "aws_proxy" or service:
            name = service or kind or "nothing"
            self._resolver.warn(
                f"{where.owner} integrates {name}, which is not served; aws_proxy (Lambda), http_proxy and mock are",
                operation.line,
            )
            return None
        function = self._function_of(self._with_stage_variables(where.text("uri")))
        if function is None:
            self._resolver.warn(f"{where.owner} integrates a function that is not in this template", operation.line)
        return function

    def _with_stage_variables(self, uri: str) -> str:
        section = self._properties.section("StageVariables" if self._kind == "http" else "Variables")
        for name in section.raw:
            uri = uri.replace(f"${{stageVariables.{name}}}", section.text(name))
        return uri


def route_path(path: str) -> str:
    """SAM takes /$default for $default."""
    return "$default" if path == "/$default" else path


def timeout_ms(kind: ApiKind) -> int:
    """An integration's longest and default time in ms."""
    return HTTP_TIMEOUT_MS if kind == "http" else REST_TIMEOUT_MS


def payload_format(properties: Properties, key: str, default: PayloadFormat) -> PayloadFormat:
    """The payload format under `key`. Raises TemplateError for one that does not exist."""
    value = properties.text(key, default)
    if value in ("1.0", "1"):  # an unquoted 1.0 is a YAML float
        return "1.0"
    if value in ("2.0", "2"):
        return "2.0"
    raise properties.error(key, f"is {value}, but there are only '1.0' and '2.0'")
