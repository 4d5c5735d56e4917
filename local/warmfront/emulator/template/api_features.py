"""Reads what SAM and CloudFormation say of a REST API beyond its routes: API keys, usage plans, models, gateway responses."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, cast

from warmfront.emulator.template.integrations import ApiKey, GatewayResponse, RequestValidation, UsagePlan
from warmfront.emulator.template.openapi import with_models
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, is_intrinsic
from warmfront.emulator.template.values import Resolver

Resources = Mapping[str, tuple[Node, Node]]
_PERIODS: Final = ("DAY", "WEEK", "MONTH")


class ApiFeatures:
    """The features of one REST API."""

    def __init__(self, logical_id: str, properties: Properties, resolver: Resolver, resources: Resources) -> None:
        self._logical_id = logical_id
        self._properties = properties
        self._auth = properties.section("Auth")
        self._resolver = resolver
        self._resources = resources

    @property
    def api_key_required(self) -> bool:
        """Whether methods require a key unless their event says otherwise."""
        return self._auth.boolean("ApiKeyRequired")

    def usage_plans(self) -> tuple[UsagePlan, ...]:
        """SAM's own plan, and the AWS::ApiGateway::UsagePlans that name this API."""
        own = self._auth.section("UsagePlan")
        plans = []
        if own.text("CreateUsagePlan") in ("PER_API", "SHARED"):
            shared = own.text("CreateUsagePlan") == "SHARED"
            name = "ServerlessApiKey" if shared else f"{self._logical_id}ApiKey"
            plans.append(
                _usage_plan(own, own.text("UsagePlanName", name), (ApiKey(name, _value(name), generated=True),))
            )
        for plan_id, (_, raw) in self._of_type("AWS::ApiGateway::UsagePlan"):
            plan = Properties(raw, self._resolver, plan_id)
            if any(self._is_this(stage) for stage in plan.branch("ApiStages") or ()):
                plans.append(_usage_plan(plan, plan.text("UsagePlanName", plan_id), self._keys_of(plan_id)))
        return tuple(plans)

    def _is_this(self, stage: Any) -> bool:
        reference = Properties(stage, self._resolver, self._logical_id).branch("ApiId")
        return _logical_id(reference) == self._logical_id

    def _keys_of(self, plan_id: str) -> tuple[ApiKey, ...]:
        keys = []
        for link_id, (_, raw) in self._of_type("AWS::ApiGateway::UsagePlanKey"):
            link = Properties(raw, self._resolver, link_id)
            key_id = _logical_id(link.branch("KeyId"))
            if _logical_id(link.branch("UsagePlanId")) == plan_id and key_id in self._resources:
                key = Properties(self._resources[key_id][1], self._resolver, key_id)
                value = key.text("Value")
                keys.append(
                    ApiKey(
                        key.text("Name", key_id),
                        value or _value(key_id),
                        enabled=key.boolean("Enabled"),
                        generated=not value,
                    )
                )
        return tuple(keys)

    def _of_type(self, kind: str) -> list[tuple[str, tuple[Node, Node]]]:
        return [(name, each) for name, each in self._resources.items() if each[0].get("Type") == kind]

    def gateway_responses(self) -> dict[str, GatewayResponse]:
        """SAM's GatewayResponses, and the AWS::ApiGateway::GatewayResponses of this API."""
        section = self._properties.section("GatewayResponses")
        found = {}
        for name in section.raw:
            response = section.section(name)
            headers = response.section("ResponseParameters").section("Headers")
            found[name] = GatewayResponse(
                status=response.optional_integer("StatusCode"),
                headers=_texts(headers),
                templates=_texts(response.section("ResponseTemplates")),
            )
        for logical_id, (_, raw) in self._of_type("AWS::ApiGateway::GatewayResponse"):
            response = Properties(raw, self._resolver, logical_id)
            if _logical_id(response.branch("RestApiId")) == self._logical_id:
                parameters = _texts(response.section("ResponseParameters"))
                found[response.text("ResponseType")] = GatewayResponse(
                    status=response.optional_integer("StatusCode"),
                    headers={key.removeprefix("gatewayresponse.header."): value for key, value in parameters.items()},
                    templates=_texts(response.section("ResponseTemplates")),
                )
        return found

    def validation(self, event: Properties) -> RequestValidation | None:
        """What an event's RequestModel and RequestParameters make API Gateway check.

        SAM adds a validator only where ValidateBody or ValidateParameters says so.
        """
        request = event.section("RequestModel")
        if not request.boolean("ValidateBody") and not request.boolean("ValidateParameters"):
            return None
        models: dict[str, object] = {}
        if request.boolean("ValidateBody"):
            known = self._properties.get("Models") or {}
            name = request.text("Model")
            if name not in known:
                raise request.error("Model", f"is {name!r}, which is not under Models of {self._logical_id}")
            models = {"application/json": with_models(known[name], known)}
        required = self._required_parameters(event) if request.boolean("ValidateParameters") else ()
        return RequestValidation(required, models)

    @staticmethod
    def _required_parameters(event: Properties) -> tuple[str, ...]:
        found = []
        for entry in event.get("RequestParameters") or ():
            for name, about in entry.items() if isinstance(entry, dict) else ():
                if isinstance(about, dict) and str(about.get("Required")).lower() == "true":
                    found.append(name)
        return tuple(found)


def _usage_plan(properties: Properties, name: str, keys: tuple[ApiKey, ...]) -> UsagePlan:
    throttle, quota = properties.section("Throttle"), properties.section("Quota")
    period = quota.text("Period", "MONTH").upper()
    if period not in _PERIODS:
        raise quota.error("Period", f"is {period}, not one of {', '.join(_PERIODS)}")
    return UsagePlan(
        name,
        keys,
        rate_per_s=throttle.optional_number("RateLimit"),
        burst=throttle.optional_integer("BurstLimit"),
        quota=quota.optional_integer("Limit"),
        period=cast(Any, period),
    )


def _logical_id(reference: Any) -> str:
    return str(reference.get("Ref", "")) if is_intrinsic(reference) else str(reference or "")


def _value(name: str) -> str:
    """A key's value where the template gives none: forty characters, and the same at every start."""
    return hashlib.sha256(f"warmfront {name}".encode()).hexdigest()[:40]


def _texts(properties: Properties) -> dict[str, str]:
    return {name: properties.text(name) for name in properties.raw if name in properties}
