"""Rewrites HTTP APIs of plain CloudFormation (AWS::ApiGatewayV2) as the SAM resource and OpenAPI document they amount to."""

from typing import Any

from warmfront.emulator.template.raw_references import RawResources, lowered
from warmfront.emulator.template.source import Items, Node

SAM_TYPE = "AWS::Serverless::HttpApi"


def http_apis(raw: RawResources) -> dict[str, tuple[Node, Node]]:
    """Logical id -> resource and properties of every HTTP API; WebSocket APIs are warned about and left out."""
    found = {}
    for logical_id, (resource, properties) in raw.of_type("AWS::ApiGatewayV2::Api"):
        if str(raw.resolver.resolve(properties.get("ProtocolType", "HTTP"))).upper() != "HTTP":
            raw.resolver.warn(f"{logical_id}: WebSocket APIs are not served", resource.line)
            continue
        own = raw.resolver.attempt(_properties, raw, logical_id, properties)
        if own is not None:
            found[logical_id] = (resource, own)
    return found


def _properties(raw: RawResources, logical_id: str, properties: Node) -> Node:
    own = Node(line=properties.line, lines=dict(properties.lines))
    own["DefinitionBody"] = properties["Body"] if "Body" in properties else _document(raw, logical_id, properties)
    for key in ("Name", "CorsConfiguration"):
        if key in properties:
            own[key] = properties[key]
    for _, stage in raw.belonging("AWS::ApiGatewayV2::Stage", "ApiId", logical_id):
        own["StageName"] = stage.get("StageName", "$default")
        for source, target in (
            ("StageVariables", "StageVariables"),
            ("DefaultRouteSettings", "DefaultRouteSettings"),
            ("AccessLogSettings", "AccessLogSettings"),
        ):
            if source in stage:
                own[target] = stage[source]
    return own


def _document(raw: RawResources, logical_id: str, properties: Node) -> Node:
    paths: dict[str, Node] = {}
    if "Target" in properties:  # quick create: one route to one function or URL
        key = str(raw.resolver.resolve(properties.get("RouteKey", "$default")))
        integration = _quick_integration(raw, properties)
        _add(paths, key, Node({"x-amazon-apigateway-integration": integration}, line=properties.line))
    for _, route in raw.belonging("AWS::ApiGatewayV2::Route", "ApiId", logical_id):
        operation = _operation(raw, route)
        if operation is not None:
            _add(paths, str(raw.resolver.resolve(route.get("RouteKey", "$default"))), operation)
    schemes = {
        name: _scheme(raw, authorizer)
        for name, authorizer in raw.belonging("AWS::ApiGatewayV2::Authorizer", "ApiId", logical_id)
    }
    components = Node({"securitySchemes": Node(schemes)})
    return Node({"openapi": "3.0.1", "paths": Node(paths), "components": components}, line=properties.line)


def _add(paths: dict[str, Node], key: str, operation: Node) -> None:
    """`GET /x` or `$default` as a path and a method of the document."""
    method, _, path = key.rpartition(" ")
    path = "/$default" if path == "$default" else path
    name = method.lower() if method and method.upper() != "ANY" else "x-amazon-apigateway-any-method"
    item = paths.setdefault(path, Node(line=operation.line))
    item[name] = operation
    item.lines[name] = operation.line


def _quick_integration(raw: RawResources, properties: Node) -> Node:
    target = properties["Target"]
    is_url = str(raw.resolver.resolve(target)).startswith(("http://", "https://"))
    kind = "http_proxy" if is_url else "aws_proxy"
    return Node({"type": kind, "uri": target, "httpMethod": "ANY", "payloadFormatVersion": "2.0"}, line=properties.line)


def _operation(raw: RawResources, route: Node) -> Node | None:
    names = [
        name for name in raw.referenced(route.get("Target")) if raw.is_type(name, "AWS::ApiGatewayV2::Integration")
    ]
    if not names:
        raw.resolver.warn(f"route {raw.resolver.resolve(route.get('RouteKey'))} has no integration here", route.line)
        return None
    operation = Node({"x-amazon-apigateway-integration": _integration(raw.properties(names[0]))}, line=route.line)
    security = _security(raw, route)
    if security is not None:
        operation["security"] = security
    return operation


def _integration(properties: Node) -> Node:
    integration = Node(line=properties.line, lines=dict(properties.lines))
    renamed = {
        "IntegrationType": "type",
        "IntegrationUri": "uri",
        "IntegrationMethod": "httpMethod",
        "PayloadFormatVersion": "payloadFormatVersion",
        "TimeoutInMillis": "timeoutInMillis",
        "RequestParameters": "requestParameters",
        "ResponseParameters": "responseParameters",
    }
    for source, target in renamed.items():
        if source in properties:
            integration[target] = properties[source]
    if isinstance(integration.get("type"), str):
        integration["type"] = integration["type"].lower()
    return integration


def _security(raw: RawResources, route: Node) -> Items | None:
    kind = str(raw.resolver.resolve(route.get("AuthorizationType", "NONE"))).upper()
    if kind == "NONE":
        return None
    if kind == "AWS_IAM":
        return Items([Node({"AWS_IAM": Items()})])
    names = [
        name for name in raw.referenced(route.get("AuthorizerId")) if raw.is_type(name, "AWS::ApiGatewayV2::Authorizer")
    ]
    scopes = route.get("AuthorizationScopes") or Items()
    return Items([Node({name: scopes}) for name in names[:1] or ["AuthorizerId"]])


def _scheme(raw: RawResources, properties: Node) -> Node:
    """A security scheme with the authorizer in it, as an exported document has it."""
    kind = str(raw.resolver.resolve(properties.get("AuthorizerType", "REQUEST"))).lower()
    authorizer = Node({"type": kind}, line=properties.line)
    sources: Any = properties.get("IdentitySource")
    if sources is not None:
        authorizer["identitySource"] = sources
    if kind == "jwt":
        authorizer["jwtConfiguration"] = lowered(properties.get("JwtConfiguration"))
        return Node({"type": "oauth2", "x-amazon-apigateway-authorizer": authorizer}, line=properties.line)
    renamed = {
        "AuthorizerUri": "authorizerUri",
        "AuthorizerPayloadFormatVersion": "authorizerPayloadFormatVersion",
        "EnableSimpleResponses": "enableSimpleResponses",
        "AuthorizerResultTtlInSeconds": "authorizerResultTtlInSeconds",
    }
    for source, target in renamed.items():
        if source in properties:
            authorizer[target] = properties[source]
    return Node(
        {"type": "apiKey", "name": "Unused", "in": "header", "x-amazon-apigateway-authorizer": authorizer},
        line=properties.line,
    )
