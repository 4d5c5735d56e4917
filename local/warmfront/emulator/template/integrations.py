"""What an API does besides invoking functions: integrations, validation, API keys and gateway responses, as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class IntegrationResponse:
    """How a REST API turns an integration's result into a response."""

    status: int
    pattern: str | None = None
    """Regular expression for the whole status code of the result; None: every result that no other response takes."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """`method.response.header.X` -> the value's expression: 'literal', integration.response.header.Y, context.Z."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Media type -> mapping template."""


@dataclass(frozen=True, slots=True)
class MockIntegration:
    """A REST API's method that answers without a backend: a request template gives the status, a response the rest."""

    request_templates: Mapping[str, str] = field(default_factory=dict)
    responses: tuple[IntegrationResponse, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpIntegration:
    """A route that is passed on to an HTTP backend."""

    uri: str
    """With {parameters} of the request's path."""
    method: str = "ANY"
    """ANY: the request's own."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """REST APIs: `integration.request.header.X` -> `method.request.header.Y`, 'literal', context.Z."""


Integration = MockIntegration | HttpIntegration


@dataclass(frozen=True, slots=True)
class ParameterMapping:
    """Parameter mapping of an HTTP API's integration: `append:header.X`, `overwrite:path` ... -> the value's expression."""

    request: Mapping[str, str] = field(default_factory=dict)
    response: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """By the status of the integration's response."""


@dataclass(frozen=True, slots=True)
class RequestValidation:
    """What a REST API checks of a request before its integration runs."""

    parameters: tuple[str, ...] = ()
    """`method.request.header.X`, `.querystring.X`, `.path.X` that have to be there."""
    models: Mapping[str, object] = field(default_factory=dict)
    """Media type -> JSON schema (draft 4) of the body; empty: the body is not checked."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    name: str
    value: str
    """Generated from the name where the template gives none."""
    enabled: bool = True
    generated: bool = False


@dataclass(frozen=True, slots=True)
class UsagePlan:
    """Which keys open an API, how fast and how often."""

    name: str
    keys: tuple[ApiKey, ...] = ()
    rate_per_s: float | None = None
    burst: int | None = None
    quota: int | None = None
    """Requests of each key in a period."""
    period: Literal["DAY", "WEEK", "MONTH"] = "MONTH"


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """A REST API's own answer to one kind of failure."""

    status: int | None = None
    """None: the failure's own."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name -> the value's expression: 'literal', method.request.header.X, context.Y."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Media type -> body with $context variables."""
