"""Finds the OpenAPI document of an API, in the template or in a file, and follows its $refs."""

from pathlib import Path
from typing import Any, Final

from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Items, Node, TemplateError, is_intrinsic, read
from warmfront.emulator.template.values import Resolver

_MODELS: Final = ("#/components/schemas/", "#/definitions/")
"""References to models stay: validation needs them, and models may refer to themselves."""
_REMOTE: Final = ("https://", "http://")
_DEEP: Final = ("paths", "components")
"""Sections whose parts, operations and components, stand two levels below them; those of others stand one level below."""

type _Above = tuple[tuple[Path | None, str], ...]


def definition_body(properties: Properties, resolver: Resolver, root: Path) -> Any:
    """The document under DefinitionBody or DefinitionUri, with its references followed; None where there is none.

    Raises TemplateError for a file that does not exist.
    """
    body, folder, path = properties.branch("DefinitionBody"), root, None
    if body is None and "DefinitionUri" in properties:
        where = properties.branch("DefinitionUri")
        in_s3 = isinstance(where, dict) and not is_intrinsic(where)
        location = "s3://" if in_s3 else properties.text("DefinitionUri")
        if location.startswith(("s3://", *_REMOTE)):
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
    return _References(body, path, folder, resolver, properties.owner).followed()


class _BrokenReference(TemplateError):
    """A $ref that leads nowhere; the path or operation that holds it is left out."""


class _References:
    """Follows the references of one document; files are read once."""

    def __init__(self, document: Node, path: Path | None, folder: Path, resolver: Resolver, owner: str) -> None:
        """`path`: the document's file; None: it is in the template. `folder`: where its references begin."""
        self._documents: dict[Path | None, Node] = {None: document}
        self._path, self._folder, self._resolver, self._owner = path, folder, resolver, owner

    def followed(self) -> Any:
        document = self._documents[None]
        return self._copy(document, None, (), ()) if _has_reference(document) else document

    def _copy(self, value: Any, file: Path | None, above: _Above, where: tuple[str, ...]) -> Any:
        """`file` is where the value stands; `above` are the references that led here; `where` are the keys above it.

        Sections, paths, operations and components with a broken reference are left out, each by itself.
        """
        if isinstance(value, Items):
            return Items([self._copy(entry, file, above, (*where, "")) for entry in value], line=value.line)
        if not isinstance(value, Node):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str) and not (file is None and reference.startswith(_MODELS)):
            return self._copy(*self._target(reference, file, value.line_of("$ref"), above), where)
        made = Node(line=value.line, lines=value.lines)
        for key, entry in value.items():
            try:
                made[key] = self._copy(entry, file, above, (*where, key))
            except _BrokenReference as error:
                if len(where) > (2 if where[:1] and where[0] in _DEEP else 1):
                    raise
                self._resolver.problem(TemplateError(f"{error}; left out: {' '.join((*where, key))}"))
        return made

    def _target(self, reference: str, file: Path | None, line: int, above: _Above) -> tuple[Any, Path | None, _Above]:
        """What a reference names, the file that holds it, and the references that led there, with this one."""
        name, _, pointer = reference.partition("#")
        if name.startswith(_REMOTE):
            raise self._broken(file, line, f"$ref {reference} is on the web, which is not read; name a local file")
        target = ((file.parent if file is not None else self._folder) / name).resolve() if name else file
        if (target, pointer) in above:
            raise self._broken(file, line, f"$ref {reference} refers to itself")
        found: Any = self._document(target)
        if found is None:
            raise self._broken(file, line, f"$ref {reference} names a file that does not exist")
        for key in filter(None, pointer.split("/")):
            key = key.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdigit() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                holder = target.name if target is not None else "the document"
                raise self._broken(file, line, f"$ref {reference} names nothing in {holder}: it has no {key}")
        return found, target, (*above, (target, pointer))

    def _document(self, file: Path | None) -> Node | None:
        if file not in self._documents:
            if file is None or not file.is_file():
                return None
            try:
                self._documents[file], _ = read(file)
            except TemplateError as error:
                raise _BrokenReference(str(error)) from None
        return self._documents[file]

    def _broken(self, file: Path | None, line: int, message: str) -> _BrokenReference:
        """The error, with the file that the reference stands in."""
        where = file or self._path
        if where is None:
            return _BrokenReference(str(self._resolver.error(f"{self._owner}: {message}", line)))
        return _BrokenReference(f"{where}:{line}: {self._owner}: {message}")


def _has_reference(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(map(_has_reference, value.values()))
    return isinstance(value, list) and any(map(_has_reference, value))
