"""Values of a request that authorizers, mappings and templates name: $context, headers, query strings, stage variables."""

from warmfront.emulator.gateway.exchange import Call, parse_query


def header_value(call: Call, name: str) -> str | None:
    """All values of a header, joined as HTTP APIs join them; None when it is absent or empty."""
    lower = name.lower()
    if lower == "cookie":
        return "; ".join(call.request.head.cookies or ()) or None
    return call.request.head.fields.get(lower) or None


def query_value(call: Call, name: str) -> str | None:
    """The first value of a query string parameter; None when it is absent or empty."""
    return next((value for key, value in parse_query(call.request.query) if key == name), None) or None


def identity_value(call: Call, source: str) -> str | None:
    """The value that an identity source such as $request.header.Authorization names; None when absent or empty."""
    kind, _, name = source.partition(".") if not source.startswith("$request.") else source.rpartition(".")
    if kind == "$request.header":
        return header_value(call, name)
    if kind == "$request.querystring":
        return query_value(call, name)
    if kind == "$stageVariables":
        return (call.context.stage_variables or {}).get(name)
    if kind == "$context":
        return context_value(call, name)
    return None


def context_value(call: Call, name: str) -> str | None:
    """A variable of $context by its name without the prefix; None when the request has no such variable.

    docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
    """
    request, fields = call.request, call.request.head.fields
    if name.startswith("authorizer."):
        return _authorizer_value(call, name.removeprefix("authorizer."))
    known = {
        "accountId": call.context.account_id,
        "apiId": call.context.api_id,
        "domainName": fields.get("host", ""),
        "domainPrefix": fields.get("host", "").partition(".")[0].partition(":")[0],
        "extendedRequestId": call.request_id,
        "httpMethod": request.method,
        "http.method": request.method,
        "http.path": request.path,
        "http.protocol": request.protocol,
        "http.sourceIp": request.source_ip,
        "identity.sourceIp": request.source_ip,
        "identity.userAgent": fields.get("user-agent", ""),
        "path": request.path,
        "protocol": request.protocol,
        "requestId": call.request_uuid or call.request_id,
        "requestTime": call.time_text,
        "requestTimeEpoch": str(call.time_ms),
        "resourcePath": call.route.path,
        "routeKey": call.route.key,
        "stage": call.context.stage,
    }
    return known.get(name)


def _authorizer_value(call: Call, path: str) -> str | None:
    value: object = call.authorizer
    for key in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return None if value is None or isinstance(value, dict) else str(value)


def parameter_value(expression: str, call: Call) -> str | None:
    """The value of a REST API's parameter mapping: a quoted literal, a part of the request, or a variable of $context."""
    if expression.startswith("'") and expression.endswith("'"):
        return expression[1:-1]
    kind, _, name = expression.rpartition(".")
    if kind == "method.request.header":
        return header_value(call, name)
    if kind == "method.request.querystring":
        return query_value(call, name)
    if kind == "method.request.path":
        return (call.path_parameters or {}).get(name)
    if expression.startswith("context."):
        return context_value(call, expression.removeprefix("context."))
    if expression.startswith("stageVariables."):
        return (call.context.stage_variables or {}).get(name)
    return None
