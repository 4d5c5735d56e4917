"""Finds the OpenAPI document of an API, in the template or in a file, and follows its $refs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Items, Node, TemplateError, is_intrinsic, read
from warmfront.emulator.template.values import Resolver

_MODELS: Final = ("#/components/schemas/", "#/definitions/")
"""References to models stay: validation needs them, and models may refer to themselves."""


def definition_body(properties: Properties, resolver: Resolver, root: Path) -> Any:
    """The document under DefinitionBody or DefinitionUri, with its references followed; None where there is none.

    Raises TemplateError for a file that does not exist.
    """
    body, folder = properties.branch("DefinitionBody"), root
    if body is None and "DefinitionUri" in properties:
        where = properties.branch("DefinitionUri")
        in_s3 = isinstance(where, dict) and not is_intrinsic(where)
        location = "s3://" if in_s3 else properties.text("DefinitionUri")
        if location.startswith(("s3://", "https://", "http://")):
            resolver.warn(
                f"{properties.owner}: its OpenAPI document is in S3 or on the web, so its routes are not served;"
                " name a file beside the template",
                properties.line("DefinitionUri"),
            )
            return None
        path = root / location
        if not path.is_file():
            raise properties.error("DefinitionUri", f"names {path}, which does not exist")
        body, _ = read(path)
        folder = path.parent
    if not isinstance(body, Node):
        return body
    return _References(
        body, folder, lambda message, line: resolver.error(f"{properties.owner}: {message}", line)
    ).followed()


class _References:
    """Follows the references of one document; files are read once."""

    def __init__(self, document: Node, folder: Path, error: Callable[[str, int], TemplateError]) -> None:
        self._documents: dict[Path | None, Node] = {None: document}
        self._folder = folder
        self._error = error

    def followed(self) -> Any:
        document = self._documents[None]
        return self._copy(document, None, ()) if _has_reference(document) else document

    def _copy(self, value: Any, file: Path | None, above: tuple[tuple[Path | None, str], ...]) -> Any:
        """`file` is where the value stands; `above` are the references that led here."""
        if isinstance(value, Items):
            return Items([self._copy(entry, file, above) for entry in value], line=value.line)
        if not isinstance(value, Node):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str) and not (file is None and reference.startswith(_MODELS)):
            return self._target(reference, file, value.line, above)
        made = Node(line=value.line, lines=value.lines)
        for key, entry in value.items():
            made[key] = self._copy(entry, file, above)
        return made

    def _target(self, reference: str, file: Path | None, line: int, above: tuple[tuple[Path | None, str], ...]) -> Any:
        name, _, pointer = reference.partition("#")
        target = file
        if name:
            target = ((file.parent if file is not None else self._folder) / name).resolve()
        if (target, pointer) in above:
            raise self._error(f"$ref {reference} refers to itself", line)
        if target not in self._documents:
            if target is None or not target.is_file():
                raise self._error(f"$ref {reference} names a file that does not exist", line)
            self._documents[target], _ = read(target)
        found: Any = self._documents[target]
        for key in filter(None, pointer.split("/")):
            key = key.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdigit() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                raise self._error(f"$ref {reference} names nothing in the document", line)
        return self._copy(found, target, (*above, (target, pointer)))


def _has_reference(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(map(_has_reference, value.values()))
    return isinstance(value, list) and any(map(_has_reference, value))
