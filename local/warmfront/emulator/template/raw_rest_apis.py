"""Rewrites REST APIs of plain CloudFormation (AWS::ApiGateway) as the SAM resource and OpenAPI document they amount to."""

from typing import Any

from warmfront.emulator.template.raw_references import RawResources
from warmfront.emulator.template.source import Items, Node

SAM_TYPE = "AWS::Serverless::Api"
_ANY = "x-amazon-apigateway-any-method"
_INTEGRATION_KEYS = {
    "Uri": "uri",
    "IntegrationHttpMethod": "httpMethod",
    "RequestParameters": "requestParameters",
    "RequestTemplates": "requestTemplates",
    "PassthroughBehavior": "passthroughBehavior",
    "TimeoutInMillis": "timeoutInMillis",
}
_AUTHORIZER_KEYS = {
    "AuthorizerUri": "authorizerUri",
    "AuthorizerResultTtlInSeconds": "authorizerResultTtlInSeconds",
    "IdentitySource": "identitySource",
    "IdentityValidationExpression": "identityValidationExpression",
    "ProviderARNs": "providerARNs",
}


def rest_apis(raw: RawResources) -> dict[str, tuple[Node, Node]]:
    """Logical id -> resource and properties of every REST API."""
    found = {}
    for logical_id, (resource, properties) in raw.of_type("AWS::ApiGateway::RestApi"):
        own = raw.resolver.attempt(_properties, raw, logical_id, properties)
        if own is not None:
            found[logical_id] = (resource, own)
    return found


def _properties(raw: RawResources, logical_id: str, properties: Node) -> Node:
    own = Node(line=properties.line, lines=dict(properties.lines))
    if "Body" in properties:
        own["DefinitionBody"] = properties["Body"]
    elif "BodyS3Location" in properties:
        raw.resolver.warn(f"{logical_id}: its OpenAPI document is in S3, so its routes are missing", properties.line)
    else:
        own["DefinitionBody"] = _document(raw, logical_id, properties)
    for source, target in (
        ("Name", "Name"),
        ("BinaryMediaTypes", "BinaryMediaTypes"),
        ("ApiKeySourceType", "ApiKeySourceType"),
    ):
        if source in properties:
            own[target] = properties[source]
    for _, deployment in raw.belonging("AWS::ApiGateway::Deployment", "RestApiId", logical_id):
        if "StageName" in deployment:
            own["StageName"] = deployment["StageName"]
    for _, stage in raw.belonging("AWS::ApiGateway::Stage", "RestApiId", logical_id):
        own["StageName"] = stage.get("StageName", "Prod")
        if "Variables" in stage:
            own["Variables"] = stage["Variables"]
    return own


def _document(raw: RawResources, logical_id: str, properties: Node) -> Node:
    paths: dict[str, Node] = {}
    for name, method in raw.belonging("AWS::ApiGateway::Method", "RestApiId", logical_id):
        path = _path(raw, logical_id, method.get("ResourceId"))
        if path is None:
            raw.resolver.warn(f"{name}: its ResourceId names no path of {logical_id}, so it is not served", method.line)
            continue
        verb = str(raw.resolver.resolve(method.get("HttpMethod", "ANY"))).lower()
        key = _ANY if verb == "any" else verb
        item = paths.setdefault(path, Node(line=method.line))
        item[key] = _operation(raw, method)
        item.lines[key] = method.line
    schemes = Node(
        {
            name: _scheme(raw, authorizer)
            for name, authorizer in raw.belonging("AWS::ApiGateway::Authorizer", "RestApiId", logical_id)
        }
    )
    schemes["api_key"] = Node({"type": "apiKey", "name": "x-api-key", "in": "header"})
    document = {"swagger": "2.0", "paths": Node(paths), "securityDefinitions": schemes}
    return Node(document | _validators(raw, logical_id) | _models(raw, logical_id), line=properties.line)


def _path(raw: RawResources, api: str, reference: Any) -> str | None:
    """The path of a resource id: its own part after its parents', or / for the API's root."""
    parts: list[str] = []
    seen: set[str] = set()
    while True:
        names = raw.referenced(reference)
        if api in names:  # GetAtt Api.RootResourceId
            return "/" + "/".join(reversed(parts))
        if not names or names[0] in seen or not raw.is_type(names[0], "AWS::ApiGateway::Resource"):
            return None
        seen.add(names[0])
        properties = raw.properties(names[0])
        parts.append(str(raw.resolver.resolve(properties.get("PathPart", ""))))
        reference = properties.get("ParentId")


def _operation(raw: RawResources, method: Node) -> Node:
    operation = Node(line=method.line, lines=dict(method.lines))
    integration = method.get("Integration")
    if isinstance(integration, Node):
        operation["x-amazon-apigateway-integration"] = _integration(integration)
    kind = str(raw.resolver.resolve(method.get("AuthorizationType", "NONE"))).upper()
    security = Items()
    if kind == "AWS_IAM":
        security.append(Node({"AWS_IAM": Items()}))
    elif kind != "NONE":
        names = raw.referenced(method.get("AuthorizerId"))
        authorizers = [name for name in names if raw.is_type(name, "AWS::ApiGateway::Authorizer")]
        scopes = method.get("AuthorizationScopes") or Items()
        security.append(Node({authorizers[0] if authorizers else "AuthorizerId": scopes}))
    if str(raw.resolver.resolve(method.get("ApiKeyRequired", False))).lower() == "true":
        security.append(Node({"api_key": Items()}))
    if security:
        operation["security"] = security
    _add_validation(raw, method, operation)
    return operation


def _integration(properties: Node) -> Node:
    integration = Node({"type": str(properties.get("Type", "")).lower()}, line=properties.line)
    for source, target in _INTEGRATION_KEYS.items():
        if source in properties:
            integration[target] = properties[source]
    responses = properties.get("IntegrationResponses")
    if isinstance(responses, list):
        integration["responses"] = Node(
            {
                str(each.get("SelectionPattern") or "default"): _response(each)
                for each in responses
                if isinstance(each, Node)
            }
        )
    return integration


def _response(properties: Node) -> Node:
    renamed = {
        "StatusCode": "statusCode",
        "ResponseParameters": "responseParameters",
        "ResponseTemplates": "responseTemplates",
    }
    return Node({target: properties[source] for source, target in renamed.items() if source in properties})


def _scheme(raw: RawResources, properties: Node) -> Node:
    """A security definition with the authorizer in it, as an exported document has it."""
    kind = str(raw.resolver.resolve(properties.get("Type", "TOKEN"))).lower()
    source = str(raw.resolver.resolve(properties.get("IdentitySource", "method.request.header.Authorization")))
    authorizer = Node({"type": kind}, line=properties.line)
    for name, target in _AUTHORIZER_KEYS.items():
        if name in properties:
            authorizer[target] = properties[name]
    header = source.rpartition(".")[2] if kind != "request" else "Unused"
    return Node(
        {
            "type": "apiKey",
            "name": header,
            "in": "header",
            "x-amazon-apigateway-authtype": "cognito_user_pools" if kind == "cognito_user_pools" else "custom",
            "x-amazon-apigateway-authorizer": authorizer,
        },
        line=properties.line,
    )


# Request validation


def _add_validation(raw: RawResources, method: Node, operation: Node) -> None:
    validators = raw.referenced(method.get("RequestValidatorId"))
    if not validators:
        return
    operation["x-amazon-apigateway-request-validator"] = validators[0]
    parameters = Items()
    for name, required in (method.get("RequestParameters") or {}).items():
        place, _, parameter = str(name).removeprefix("method.request.").partition(".")
        where = {"querystring": "query", "header": "header", "path": "path"}.get(place)
        if where is not None:
            needed = str(raw.resolver.resolve(required)).lower() == "true"
            parameters.append(Node({"name": parameter, "in": where, "required": needed, "type": "string"}))
    for media_type, model in (method.get("RequestModels") or {}).items():
        names = raw.referenced(model)
        if names and media_type == "application/json":
            schema = Node({"$ref": f"#/definitions/{names[0]}"})
            parameters.append(Node({"name": names[0], "in": "body", "required": True, "schema": schema}))
    if parameters:
        operation["parameters"] = parameters


def _validators(raw: RawResources, logical_id: str) -> dict[str, Any]:
    found = raw.belonging("AWS::ApiGateway::RequestValidator", "RestApiId", logical_id)
    if not found:
        return {}
    validators = {
        name: Node(
            {
                "validateRequestBody": properties.get("ValidateRequestBody", False),
                "validateRequestParameters": properties.get("ValidateRequestParameters", False),
            }
        )
        for name, properties in found
    }
    return {"x-amazon-apigateway-request-validators": Node(validators)}


def _models(raw: RawResources, logical_id: str) -> dict[str, Any]:
    found = raw.belonging("AWS::ApiGateway::Model", "RestApiId", logical_id)
    return {"definitions": Node({name: own.get("Schema") or Node() for name, own in found})} if found else {}
