"""Reads the authorizers under Auth of a SAM API, and applies its DefaultAuthorizer."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from warmfront.emulator.template.config import ApiKind, Authorizer, JwtAuthorizer, LambdaAuthorizer, Route
from warmfront.emulator.template.openapi import IAM, REST_AUTHORIZER_TTL_S, issuer_of
from warmfront.emulator.template.operations import payload_format
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node


class SamAuthorizers:
    """Reads the Authorizers section of one API."""

    def __init__(self, function_of: Callable[[str], str | None]) -> None:
        """`function_of` gives the logical id of the function that an ARN names."""
        self._function_of = function_of

    def read(self, kind: ApiKind, auth: Properties) -> dict[str, Authorizer]:
        section = auth.section("Authorizers")
        authorizers: dict[str, Authorizer] = {}
        for name in section.raw:
            read_one = self._http_authorizer if kind == "http" else self._rest_authorizer
            authorizer = auth.resolver.attempt(read_one, name, section.section(name))
            if authorizer is not None:
                authorizers[name] = authorizer
        if auth.boolean("EnableIamAuthorizer") or auth.text("DefaultAuthorizer") == "AWS_IAM":
            authorizers[IAM.name] = IAM
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
            function=self._function_of(properties.text("FunctionArn")),
            identity_sources=_identity_sources(identity, "$request.header.", "$request.querystring."),
            payload_format=payload_format(properties, "AuthorizerPayloadFormatVersion", "1.0"),
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
            function=self._function_of(properties.text("FunctionArn")),
            kind=kind,
            identity_sources=sources,
            payload_format="1.0",
            ttl_s=identity.integer("ReauthorizeEvery", REST_AUTHORIZER_TTL_S),
            validation_expression=identity.optional_text("ValidationExpression"),
        )


class DefaultAuthorizer:
    """SAM's DefaultAuthorizer, which stands before every operation that names no authorizer of its own.

    Follows set_path_default_authorizer of aws-sam-translator. REST (swagger/swagger.py): NONE opens an operation, OPTIONS
    is left out where AddDefaultAuthorizerToCorsPreflight is false. HTTP (open_api/open_api.py): any security of the
    operation wins, OPTIONS is always left out.
    """

    def __init__(self, kind: ApiKind, auth: Properties, authorizers: Mapping[str, Authorizer]) -> None:
        self._kind = kind
        self._name = auth.text("DefaultAuthorizer")
        self._name = "" if self._name == "NONE" else self._name
        self._authorizers = authorizers
        preflights = kind == "rest" and auth.boolean("AddDefaultAuthorizerToCorsPreflight", True)
        self.of_preflights = self._name if self._name and preflights else None

    def applied(self, route: Route) -> Route:
        """A route of an OpenAPI document with the authorizer that really stands before it."""
        if route.authorizer == "NONE":
            return dataclasses.replace(route, authorizer=None, scopes=())
        if not self._name or route.authorizer in self._authorizers or (route.authorizer and self._kind == "http"):
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


def _identity_sources(identity: Properties, header: str, query: str) -> tuple[str, ...]:
    prefixes = {"Headers": header, "QueryStrings": query, "StageVariables": "$stageVariables.", "Context": "$context."}
    return tuple(prefix + value for key, prefix in prefixes.items() for value in identity.texts(key))


def _lower_keys(properties: Properties) -> Properties:
    """JwtConfiguration is written with either case of its keys; SAM takes both."""
    raw = properties.raw
    lowered = Node({key.lower(): value for key, value in raw.items()}, line=raw.line)
    return Properties(lowered, properties.resolver, properties.owner)
