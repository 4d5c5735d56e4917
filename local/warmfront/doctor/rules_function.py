"""Rules that look at one function by itself: its timeouts, pool, concurrency, start, logs, secrets and TLS."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from warmfront.doctor.finding import Finding, Severity
from warmfront.doctor.waits import (
    REDIS_WORDS,
    Setting,
    Waits,
    credentials,
    database_tls,
    read_waits,
    unencrypted_redis,
)
from warmfront.emulator.template import FunctionConfig

type Rule = Callable[[FunctionConfig], Iterator[Finding]]

IDLE_FLOW_S: Final = (
    350.0  # after which AWS drops an idle flow (elasticloadbalancing/latest/network/network-load-balancers.html)
)
MEMORY_DEFAULT_MB: Final = 128
VCPU_MB: Final = 1769  # of memory that bring one CPU (lambda/latest/dg/configuration-memory.html)
# Deprecated or blocked at the end of 2026 (lambda/latest/dg/lambda-runtimes.html).
OLD_RUNTIME: Final = re.compile(
    r"python(2\.7|3\.[6-9]|3\.10)|nodejs(\d|1\d)(\.|$|x)|ruby(2|3\.2)|java8$|dotnet(core|5|6)|go1"
)
SNAPSTART_PYTHON_MIN: Final = (3, 12)


def _at(function: FunctionConfig, rule: str, severity: Severity, message: str, fix: str) -> Finding:
    return Finding(rule, severity, function.logical_id, function.line, message, fix)


def _s(setting: Setting) -> str:
    return f"{setting.name} ({setting.value:g} s)"


def inner_timeouts(function: FunctionConfig) -> Iterator[Finding]:
    """A timeout of the code must be below the function's Timeout: at that, Lambda kills the environment and no cause is logged."""
    waits = read_waits(function)
    timeout_s = function.timeout_s
    for setting in waits.timeouts():
        if setting.value >= timeout_s:
            yield _at(
                function,
                "inner-timeout-over-outer",
                Severity.ERROR,
                f"{_s(setting)} is not below the function's Timeout ({timeout_s} s): the environment is killed first",
                f"lower {setting.name} below {timeout_s} s, or raise Timeout",
            )
    yield from _in_a_row(function, waits)


def _in_a_row(function: FunctionConfig, waits: Waits) -> Iterator[Finding]:
    """The waits that one request may have in sequence (cache, connection, statement) must fit into the Timeout."""
    timeout_s = function.timeout_s
    inner = [each for each in (waits.redis, waits.acquire, waits.statement) if each and each.value < timeout_s]
    parts = [*inner, *([waits.reserve] if waits.reserve else [])]
    whole = sum(setting.value for setting in parts)
    if len(inner) > 1 and whole >= timeout_s:
        terms = " + ".join(_s(setting) for setting in parts)
        yield _at(
            function,
            "waits-over-timeout",
            Severity.ERROR,
            f"{terms} = {whole:g} s is not below the function's Timeout ({timeout_s} s)",
            f"Timeout of {int(whole) + 1} s or more, or shorter waits",
        )


def deadline(function: FunctionConfig) -> Iterator[Finding]:
    reserve = read_waits(function).reserve
    if reserve and reserve.value >= function.timeout_s:
        yield _at(
            function,
            "reserve-over-timeout",
            Severity.ERROR,
            f"{_s(reserve)} leaves no time for work: the Timeout is {function.timeout_s} s",
            f"{reserve.name} of a tenth of the Timeout",
        )


def retries(function: FunctionConfig) -> Iterator[Finding]:
    waits = read_waits(function)
    attempts = waits.attempts
    if attempts is None or attempts.value <= 1 or not (timeouts := _repeated(attempts, waits)):
        return
    longest = max(timeouts, key=lambda setting: setting.value)
    whole = attempts.value * longest.value
    if longest.value < function.timeout_s <= whole:
        yield _at(
            function,
            "retries-over-budget",
            Severity.ERROR,
            f"{attempts.value:g} attempts ({attempts.name}) x {_s(longest)} = {whole:g} s is not below the Timeout "
            f"({function.timeout_s} s): the last attempts are cut off, and load grows {attempts.value:g} times in an outage",
            f"fewer attempts, or {longest.name} below {function.timeout_s / attempts.value:.2g} s",
        )


def _repeated(attempts: Setting, waits: Waits) -> list[Setting]:
    """The waits that these attempts repeat: those of the client that the setting's name mentions, else all."""
    words = set(attempts.name.upper().split("_"))
    if words & REDIS_WORDS:
        known = [waits.redis]
    elif words & {"AWS", "HTTP", "CLIENT"}:
        known = [waits.call]
    else:
        known = [waits.call, waits.redis, waits.statement, waits.connect]
    return [setting for setting in known if setting]


def pool_bounds(function: FunctionConfig) -> Iterator[Finding]:
    """A pool needs explicit limits: asyncpg's `acquire`, for example, has no timeout by default."""
    waits = read_waits(function)
    if waits.pool_max is None:
        return
    missing = {
        "no-acquire-timeout": (waits.acquire, "an invocation waits for a connection until Lambda kills it", "0.5 s"),
        "no-connect-timeout": (waits.connect, "asyncpg waits 60 s for a server that does not answer", "2 s"),
        "no-statement-timeout": (waits.statement, "Postgres continues a query after its caller has given up", "1.5 s"),
    }
    for rule, (setting, harm, good) in missing.items():
        if setting is None:
            what = rule.removeprefix("no-").replace("-", " ")
            message = f"a pool ({waits.pool_max.name}) and no {what} in the environment: {harm}"
            yield _at(function, rule, Severity.WARNING, message, f"set one explicitly, such as {good}")


def pool_size(function: FunctionConfig) -> Iterator[Finding]:
    waits = read_waits(function)
    most, least = waits.pool_max, waits.pool_min
    if most and most.value > 2:
        yield _at(
            function,
            "pool-too-large",
            Severity.WARNING,
            f"{most.name} is {most.value:g}: an environment serves one invocation at a time and uses one connection, "
            "each further one is kept open without use",
            f"{most.name} of 1, or 2 if a handler runs queries in parallel",
        )
    if most and least and least.value > most.value:
        yield _at(
            function,
            "pool-min-over-max",
            Severity.ERROR,
            f"{least.name} is {least.value:g}, above {most.name} ({most.value:g})",
            f"{least.name} of 0: connections open when they are needed",
        )
    if most and most.value == 0:
        yield _at(
            function, "pool-of-none", Severity.ERROR, f"{most.name} is 0: no connection, ever", f"{most.name} of 1"
        )


def idle_connections(function: FunctionConfig) -> Iterator[Finding]:
    idle = read_waits(function).idle
    if idle and idle.value >= IDLE_FLOW_S:
        yield _at(
            function,
            "idle-over-350-s",
            Severity.WARNING,
            f"{_s(idle)} keeps connections longer than AWS keeps an idle flow ({IDLE_FLOW_S:g} s): the next query after it "
            "waits for a timeout",
            f"{idle.name} of 300 s or less",
        )


def breaker(function: FunctionConfig) -> Iterator[Finding]:
    waits = read_waits(function)
    if waits.breaker_slow and waits.statement and waits.breaker_slow.value >= waits.statement.value:
        yield _at(
            function,
            "breaker-never-slow",
            Severity.ERROR,
            f"{_s(waits.breaker_slow)} is not below {_s(waits.statement)}: no call can take long enough to count as slow",
            f"{waits.breaker_slow.name} of about half of that",
        )


def concurrency(function: FunctionConfig) -> Iterator[Finding]:
    reserved, provisioned = function.reserved_concurrency, function.provisioned_concurrency
    if reserved == 0:
        message = "ReservedConcurrentExecutions is 0: every invocation is throttled"
        yield _at(
            function, "reserved-zero", Severity.ERROR, message, "leave it out (AWS::NoValue) or reserve 1 or more"
        )
    if provisioned and reserved is not None and provisioned > reserved > 0:
        yield _at(
            function,
            "provisioned-over-reserved",
            Severity.ERROR,
            f"{provisioned} provisioned environments of {reserved} reserved: the deployment fails",
            f"reserve {provisioned} or more",
        )
    if (provisioned or function.snap_start) and function.auto_publish_alias is None:
        what = "ProvisionedConcurrencyConfig" if provisioned else "SnapStart"
        message = f"{what} works on published versions only, and there is no AutoPublishAlias"
        yield _at(function, "no-alias", Severity.ERROR, message, "AutoPublishAlias: live, and route to it")


def snap_start(function: FunctionConfig) -> Iterator[Finding]:
    """Settings that SnapStart excludes (lambda/latest/dg/snapstart.html); neither SAM nor cfn-lint rejects them."""
    if not function.snap_start:
        return
    version = re.fullmatch(r"python(\d+)\.(\d+)", function.runtime)
    old = version is not None and (int(version[1]), int(version[2])) < SNAPSTART_PYTHON_MIN
    clashes = {
        f"the runtime {function.runtime} has none (Python from 3.12)": old,
        "provisioned concurrency excludes it": bool(function.provisioned_concurrency),
        f"it allows 512 MB of ephemeral storage, not {function.ephemeral_storage_mb}": function.ephemeral_storage_mb
        > 512,
    }
    for reason, clash in clashes.items():
        if clash:
            yield _at(function, "snapstart-clash", Severity.ERROR, f"SnapStart: {reason}", "drop one of the two")


def memory(function: FunctionConfig) -> Iterator[Finding]:
    if function.memory_mb == MEMORY_DEFAULT_MB:  # less is outside Lambda's limits, which the template's reader reports
        share = MEMORY_DEFAULT_MB / VCPU_MB
        yield _at(
            function,
            "memory-default",
            Severity.WARNING,
            f"MemorySize is {function.memory_mb} MB, Lambda's default, which gives {share:.0%} of a CPU: requests, and cold "
            "starts even more, take many times as long",
            "MemorySize of 1024 or more; measure what it costs with `warmfront bench`",
        )


def logs(function: FunctionConfig) -> Iterator[Finding]:
    level = (function.application_log_level or "").upper()
    if function.log_format.upper() == "JSON" and level in ("WARN", "WARNING", "ERROR", "FATAL"):
        yield _at(
            function,
            "metrics-dropped",
            Severity.ERROR,
            f"ApplicationLogLevel {level}: Lambda takes JSON lines without a level for INFO, so every EMF metric is dropped",
            "ApplicationLogLevel: INFO, and the logger's own level in POWERTOOLS_LOG_LEVEL",
        )


def runtime(function: FunctionConfig) -> Iterator[Finding]:
    if OLD_RUNTIME.match(function.runtime):
        message = f"the runtime {function.runtime} is deprecated: no patches, and soon no updates of the function"
        yield _at(function, "runtime-deprecated", Severity.WARNING, message, "python3.13 or later")


def secrets(function: FunctionConfig) -> Iterator[Finding]:
    for name in credentials(function):
        yield _at(
            function,
            "secret-in-environment",
            Severity.WARNING,
            f"{name} contains a secret in plain text: everybody who may describe the function can read it",
            "keep it in Secrets Manager and pass its ARN",
        )


def encryption(function: FunctionConfig) -> Iterator[Finding]:
    tls = database_tls(function)
    if tls and tls.mode in ("disable", "allow", "prefer"):
        message = f"{tls.name} is {tls.mode}: the connection to the database may be made without TLS"
        yield _at(function, "no-tls", Severity.WARNING, message, "verify-full, at least require")
    elif tls and tls.mode == "require":
        message = f"{tls.name} is require: encrypted, but the server at that address is not verified"
        fix = "verify-full, with RDS' certificates in the package"
        yield _at(function, "tls-unverified", Severity.ADVICE, message, fix)
    if unencrypted_redis(function):
        message = "REDIS_URL is redis://: keys, values and the password cross the network in clear"
        yield _at(function, "no-tls", Severity.WARNING, message, "rediss://")


def cache_waits(function: FunctionConfig) -> Iterator[Finding]:
    if "REDIS_URL" in function.environment and read_waits(function).redis is None:
        yield _at(
            function,
            "no-redis-timeout",
            Severity.ADVICE,
            "REDIS_URL is set without a timeout: redis-py's defaults wait a minute for a server that never answers",
            "if the code does not set one: 0.1 s and 1 retry",
        )


RULES: tuple[Rule, ...] = (
    inner_timeouts,
    deadline,
    retries,
    pool_bounds,
    pool_size,
    idle_connections,
    breaker,
    concurrency,
    snap_start,
    memory,
    logs,
    runtime,
    secrets,
    encryption,
    cache_waits,
)
