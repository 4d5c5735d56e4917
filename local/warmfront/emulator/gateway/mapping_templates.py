"""Evaluates the mapping templates (Velocity) of REST APIs, with $input, $context, $stageVariables and $util.

docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
"""

import base64
import json
import re
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call, parse_query
from warmfront.emulator.gateway.variables import context_value, header_value, query_value

_STEP: Final = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]|\['([^']*)'\]")


def evaluate(template: str, call: Call, body: bytes, overrides: dict[str, Any] | None = None) -> str:
    """The text of a template for a request.

    Args:
        template: The mapping template.
        call: The request.
        body: What $input reads: the request's body, or the integration's result.
        overrides: Filled with what the template sets under $context.responseOverride.

    Raises:
        RefusedError: The template cannot be evaluated.
    """
    if "$" not in template and "#" not in template:
        return template
    import airspeed  # takes 20 ms, and few templates have a mapping template

    override = {"header": {}, "status": None} if overrides is None else overrides
    names = {
        "input": _Input(call, body),
        "context": _Context(call, override),
        "stageVariables": dict(call.context.stage_variables or {}),
        "util": _Util(),
    }
    try:
        return str(airspeed.Template(template).merge(names))
    except RefusedError:
        raise
    except Exception as error:  # airspeed's own, and whatever the template's expressions raise
        raise RefusedError(Failure.MISCONFIGURED, f"the mapping template cannot be evaluated: {error}") from None


class _Input:
    """$input: the body and the parameters of a request."""

    def __init__(self, call: Call, body: bytes) -> None:
        self._call = call
        self.body = body.decode("utf-8", "replace")

    def json(self, path: str) -> str:
        return json.dumps(self._at(path), separators=(",", ":"), ensure_ascii=False)

    def path(self, path: str) -> Any:
        found = self._at(path)
        return "" if found is None else found

    def params(self, name: str | None = None) -> Any:
        """A parameter of path, query string or header, in this order; all of them by kind without a name."""
        call = self._call
        if name is None:
            return {
                "path": dict(call.path_parameters or {}),
                "querystring": dict(parse_query(call.request.query)),
                "header": dict(call.request.head.fields),
            }
        return (call.path_parameters or {}).get(name) or query_value(call, name) or header_value(call, name) or ""

    def _at(self, path: str) -> Any:
        try:
            found: Any = json.loads(self.body) if self.body else {}
        except ValueError:
            return None
        rest = path.strip().removeprefix("$")
        while rest:
            step = _STEP.match(rest)
            if step is None:
                raise RefusedError(Failure.MISCONFIGURED, f"JSONPath {path} is not supported: names and indexes only")
            name = step[1] if step[1] is not None else step[3]
            if isinstance(found, dict) and name is not None:
                found = found.get(name)
            elif isinstance(found, list) and step[2] is not None and int(step[2]) < len(found):
                found = found[int(step[2])]
            else:
                return None
            rest = rest[step.end() :]
        return found


class _Context(dict[str, Any]):
    """$context: variables of the request, and responseOverride, which templates fill."""

    def __init__(self, call: Call, override: dict[str, Any]) -> None:
        super().__init__(responseOverride=override)
        self._call = call
        self["identity"] = _Prefixed(call, "identity.")
        self["authorizer"] = dict(call.authorizer or {})

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or context_value(self._call, str(name)) is not None

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name) if super().__contains__(name) else context_value(self._call, name) or ""

    def get(self, name: str, default: Any = None) -> Any:
        found = self[name]
        return default if found == "" else found


class _Prefixed(dict[str, Any]):
    def __init__(self, call: Call, prefix: str) -> None:
        super().__init__()
        self._call, self._prefix = call, prefix

    def __contains__(self, name: object) -> bool:
        return context_value(self._call, f"{self._prefix}{name}") is not None

    def __getitem__(self, name: str) -> Any:
        return context_value(self._call, f"{self._prefix}{name}") or ""


class _Util:
    """$util."""

    def escapeJavaScript(self, text: Any) -> str:  # noqa: N802 - AWS's name
        return json.dumps(str(text), ensure_ascii=False)[1:-1].replace("'", "\\'")

    def parseJson(self, text: Any) -> Any:  # noqa: N802
        return json.loads(str(text))

    def urlEncode(self, text: Any) -> str:  # noqa: N802
        return quote_plus(str(text))

    def urlDecode(self, text: Any) -> str:  # noqa: N802
        return unquote_plus(str(text))

    def base64Encode(self, text: Any) -> str:  # noqa: N802
        return base64.b64encode(str(text).encode()).decode()

    def base64Decode(self, text: Any) -> str:  # noqa: N802
        return base64.b64decode(str(text)).decode("utf-8", "replace")
