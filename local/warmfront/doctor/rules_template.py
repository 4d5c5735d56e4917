"""Rules between resources: functions that share a database, APIs, queues and schedules."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Final

from warmfront.doctor.finding import Finding, Limits, Severity
from warmfront.doctor.waits import behind_proxy, database, in_production, read_waits
from warmfront.emulator.template import FunctionConfig, JwtAuthorizer, QueueConfig, ScheduleSource, SqsSource, Template

type Rule = Callable[[Template, Limits], Iterator[Finding]]

VISIBILITY_FACTOR = 6  # lambda/latest/dg/services-sqs-configure.html


def connections(template: Template, limits: Limits) -> Iterator[Finding]:
    """Environments times pool size, summed over all functions of one database server, must fit its connections."""
    servers: dict[str, list[FunctionConfig]] = {}
    for function in template.functions.values():
        if (server := database(function)) is not None:
            servers.setdefault(server, []).append(function)
    served = {route.function for api in template.apis for route in api.routes}
    for own in servers.values():
        yield from _reserved_connections(own, limits)
        for function in own:
            yield from _unreserved_connections(function, limits, in_demand=function.logical_id in served)
            yield from _budget(function)


def _pool(function: FunctionConfig) -> int:
    """Connections per environment. Without a pool it is 1, because an environment serves one invocation at a time."""
    setting = read_waits(function).pool_max
    return max(1, int(setting.value)) if setting else 1


def _reserved_connections(functions: list[FunctionConfig], limits: Limits) -> Iterator[Finding]:
    bounded = [each for each in functions if each.reserved_concurrency and not behind_proxy(each)]
    needed = {function.logical_id: (function.reserved_concurrency or 0) * _pool(function) for function in bounded}
    whole = sum(needed.values())
    if whole <= limits.connections:
        return
    worst = max(bounded, key=lambda function: needed[function.logical_id])
    terms = " + ".join(f"{own.logical_id} {own.reserved_concurrency} x {_pool(own)}" for own in bounded)
    fits = max(1, math.floor((worst.reserved_concurrency or 1) * limits.connections / whole))
    yield Finding(
        "connections-over-limit",
        Severity.ERROR,
        worst.logical_id,
        worst.line,
        f"environments x pool: {terms} = {whole} connections, but only {limits.connections} are available "
        f"(max_connections {limits.max_connections} minus {limits.kept_connections} kept for others)",
        f"{'a pool of 1, ' if _pool(worst) > 1 else ''}reserve {fits} or fewer for {worst.logical_id}, put RDS Proxy between, "
        "or pass --max-connections if the database allows more",
    )


def _unreserved_connections(function: FunctionConfig, limits: Limits, *, in_demand: bool) -> Iterator[Finding]:
    """`in_demand`: an API calls it, so that requests decide how many environments there are; a schedule needs one."""
    pool = _pool(function)
    bounded = function.reserved_concurrency is not None or behind_proxy(function)
    if bounded or limits.account_concurrency * pool <= limits.connections:
        return
    fits = limits.connections // pool
    # With one connection per environment the account's own limit may well hold, but prod should not depend on it.
    yield Finding(
        "concurrency-unbounded",
        Severity.WARNING if pool > 1 or (in_demand and in_production(function)) else Severity.ADVICE,
        function.logical_id,
        function.line,
        f"no ReservedConcurrentExecutions: up to {limits.account_concurrency:,} environments x {pool} connection(s) "
        f"against {limits.connections}",
        f"reserve {fits} or fewer, or put RDS Proxy between",
    )


def _budget(function: FunctionConfig) -> Iterator[Finding]:
    budget, reserved = read_waits(function).budget, function.reserved_concurrency
    if budget and budget.value and reserved and reserved * _pool(function) > budget.value:
        yield Finding(
            "budget-below-use",
            Severity.ERROR,
            function.logical_id,
            function.line,
            f"{budget.name} is {budget.value:g}, and {reserved} environments x {_pool(function)} may open "
            f"{reserved * _pool(function)}: pool use rises above 100 %",
            f"{budget.name} of {reserved * _pool(function)}",
        )


def api_timeouts(template: Template, limits: Limits) -> Iterator[Finding]:
    del limits
    for function in template.functions.values():
        routes = [
            r for api in template.apis if api.kind != "url" for r in api.routes if r.function == function.logical_id
        ]
        if routes and function.timeout_s * 1000 >= min(route.timeout_ms for route in routes):
            least = min(routes, key=lambda route: route.timeout_ms)
            yield Finding(
                "timeout-over-api",
                Severity.ERROR,
                function.logical_id,
                function.line,
                f"Timeout {function.timeout_s} s is not below what the API waits for {least.key} "
                f"({least.timeout_ms / 1000:g} s): the client gets a 503 or 504 while the function continues and is billed",
                f"Timeout below {least.timeout_ms / 1000:g} s; longer work belongs behind a queue",
            )


def public_apis(template: Template, limits: Limits) -> Iterator[Finding]:
    del limits
    for api in template.apis:
        if api.cors and api.cors.allow_credentials and "*" in api.cors.allow_origins:
            yield Finding(
                "cors-any-with-credentials",
                Severity.ERROR,
                api.logical_id,
                api.line,
                "CORS allows every origin together with credentials: browsers reject that, and every other client is let in",
                "name the origins",
            )
        if api.preflight_authorizer is not None:
            yield Finding(
                "preflight-refused",
                Severity.ERROR,
                api.logical_id,
                api.line,
                f"DefaultAuthorizer {api.preflight_authorizer} stands before CORS preflights too, which carry no"
                " credentials: browsers get 401 or 403",
                "AddDefaultAuthorizerToCorsPreflight: false under Auth",
            )
    for function in template.functions.values():
        url = function.function_url
        if url and url.auth_type.upper() == "NONE":
            message = "the function URL has AuthType NONE: anybody can invoke it and bypass the API with its throttling"
            yield Finding(
                "url-public", Severity.WARNING, function.logical_id, function.line, message, "AuthType: AWS_IAM"
            )


def scopes(template: Template, limits: Limits) -> Iterator[Finding]:
    """A JWT authorizer without scopes lets every token of its issuer and audience do what the route does."""
    del limits
    for api in template.apis:
        open_to_all = [
            route
            for route in api.routes
            if route.method in ("PUT", "PATCH", "DELETE")
            and isinstance(api.authorizers.get(route.authorizer or ""), JwtAuthorizer)
            and not route.scopes
        ]
        if open_to_all:
            yield Finding(
                "no-scope",
                Severity.ADVICE,
                api.logical_id,
                open_to_all[0].line or api.line,
                f"{', '.join(route.key for route in open_to_all)}: any token of the issuer may change things",
                "AuthorizationScopes on the route, unless the function checks whose token it is",
            )


# apigateway/latest/developerguide/http-api-logging-variables.html
LOGGED: Final = {
    *("accountId", "apiId", "awsEndpointRequestId", "awsEndpointRequestId2", "customDomain.basePathMatched"),
    *("dataProcessed", "domainName", "domainPrefix", "error.message", "error.messageString", "error.responseType"),
    *("extendedRequestId", "httpMethod", "integration.error", "integration.integrationStatus", "integration.latency"),
    *("integration.requestId", "integration.status", "integrationErrorMessage", "integrationLatency"),
    *("integrationStatus", "path", "protocol", "requestId", "requestTime", "requestTimeEpoch", "responseLatency"),
    *("responseLength", "routeKey", "stage", "status"),
}
LOGGED_GROUPS: Final = ("authorizer.", "identity.")
_VARIABLE: Final = re.compile(r"\$context\.([A-Za-z0-9]+(?:\.[A-Za-z0-9_-]+)*)")


def access_logs(template: Template, limits: Limits) -> Iterator[Finding]:
    """An HTTP API logs a variable that it does not have as "-", and the deployment says nothing."""
    del limits
    for api in template.apis:
        if api.kind != "http":
            continue
        used = dict.fromkeys(_VARIABLE.findall(api.access_log_format))
        unknown = [name for name in used if name not in LOGGED and not name.startswith(LOGGED_GROUPS)]
        if unknown:
            yield Finding(
                "access-log-variable",
                Severity.WARNING,
                api.logical_id,
                api.line,
                f"the access log has $context.{', $context.'.join(unknown)}, which HTTP APIs do not have",
                "take it out; for the invocation's log lines use $context.integration.requestId",
            )


def queues(template: Template, limits: Limits) -> Iterator[Finding]:
    del limits
    by_arn = {queue.arn: queue for queue in template.queues.values()}
    for source in template.event_sources:
        if not isinstance(source, SqsSource):
            continue
        function = template.functions[source.function]
        queue = by_arn.get(source.queue_arn)
        yield from _source(source, function)
        if queue is not None:
            yield from _queue(queue, function)


def _source(source: SqsSource, function: FunctionConfig) -> Iterator[Finding]:
    where, line = function.logical_id, function.line
    if source.batch_size > 1 and not source.report_batch_item_failures:
        yield Finding(
            "whole-batch-retried",
            Severity.WARNING,
            where,
            line,
            f"batches of {source.batch_size} without ReportBatchItemFailures: one bad message makes the whole batch be delivered again",
            "FunctionResponseTypes: [ReportBatchItemFailures], and return the failed ids",
        )
    most, reserved = source.maximum_concurrency, function.reserved_concurrency
    if most is not None and reserved is not None and most > reserved:
        yield Finding(
            "queue-over-reserved",
            Severity.ERROR,
            where,
            line,
            f"MaximumConcurrency {most} of {source.queue_name} is above {reserved} reserved: throttled batches count as "
            "receives and end in the dead-letter queue",
            f"MaximumConcurrency of {max(2, reserved)} or less, or reserve {most}",
        )


def _queue(queue: QueueConfig, function: FunctionConfig) -> Iterator[Finding]:
    good = VISIBILITY_FACTOR * function.timeout_s
    if queue.visibility_timeout_s < good:
        too_short = queue.visibility_timeout_s < function.timeout_s
        yield Finding(
            "visibility-too-short",
            Severity.ERROR if too_short else Severity.WARNING,
            queue.logical_id,
            function.line,
            f"VisibilityTimeout {queue.visibility_timeout_s} s, and {function.logical_id} may take {function.timeout_s} s: "
            + (
                "messages are delivered again while they are processed"
                if too_short
                else "throttled batches are delivered again too soon"
            ),
            f"VisibilityTimeout of {good} s ({VISIBILITY_FACTOR} x Timeout)",
        )
    if queue.dead_letter_arn is None:
        yield Finding(
            "no-dead-letter-queue",
            Severity.WARNING,
            queue.logical_id,
            function.line,
            f"a message that {function.logical_id} cannot process is delivered again until it expires, and then lost",
            "RedrivePolicy with a dead-letter queue and maxReceiveCount 5",
        )


def lost_events(template: Template, limits: Limits) -> Iterator[Finding]:
    """A schedule invokes asynchronously: after two retries, Lambda drops the event without an error."""
    del limits
    for name in dict.fromkeys(own.function for own in template.event_sources if isinstance(own, ScheduleSource)):
        function = template.functions[name]
        config = function.event_invoke_config
        if function.dead_letter_arn is None and (config is None or config.on_failure is None):
            yield Finding(
                "failures-dropped",
                Severity.ADVICE,
                name,
                function.line,
                "a schedule invokes it asynchronously, and an event that fails three times is lost",
                "EventInvokeConfig with an OnFailure destination, unless the next run makes up for it",
            )


RULES: tuple[Rule, ...] = (
    connections,
    api_timeouts,
    public_apis,
    scopes,
    access_logs,
    queues,
    lost_events,
)
