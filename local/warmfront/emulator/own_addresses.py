"""Replaces the AWS addresses of a template's own APIs and function URLs by local ones."""

import re
from collections.abc import Mapping
from typing import Final

from warmfront.emulator.template import Template, api_id

_ADDRESS: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<id>wf[0-9a-f]{8})\.(?:execute-api|lambda-url)\.[a-z0-9-]+\."
    r"(?:amazonaws\.com(?:\.cn)?|on\.aws)(?![a-z0-9.-]*[a-z0-9])"
)


class OwnAddresses:
    """The local URL of each API, by the id that its AWS address begins with."""

    def __init__(self, template: Template, urls: list[str]) -> None:
        """`urls`: the local URL of each API, in the template's order."""
        self._urls = {api_id(api.logical_id): url for api, url in zip(template.apis, urls, strict=False)}

    def localized(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Environment variables with the addresses of the template's own APIs in place of AWS's."""
        return {name: _ADDRESS.sub(self._local, value) for name, value in variables.items()}

    def _local(self, match: re.Match[str]) -> str:
        url = self._urls.get(match["id"])
        if url is None:
            return match[0]
        return url if match["scheme"] else url.partition("://")[2]
