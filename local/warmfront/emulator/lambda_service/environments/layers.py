"""Lays a function's layers out: each in a folder of its own, or all merged as /opt holds them."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from warmfront.emulator.lambda_service.environments.staging import (
    Links,
    StagingError,
    read_requirements,
    unpack,
)
from warmfront.emulator.template import LayerConfig


def stage_layer(stage: Path, layer: LayerConfig, links: Links) -> Path:
    """A folder below `stage` laid out as /opt, made of a zip file or of a layer that `sam build` would still have to build,
    or the layer's own folder. Raises StagingError.

    Layers of one name may have different content, so the folder is named after both.
    """
    content = layer.content_path
    assert content is not None
    if not content.exists():
        raise StagingError(f"layer {layer.name}: {content} does not exist; correct its ContentUri")
    directory = stage / f"{layer.name}-{hashlib.sha256(str(content).encode()).hexdigest()[:8]}"
    if content.is_file():
        shutil.rmtree(directory, ignore_errors=True)
        return unpack(content, directory, f"ContentUri of layer {layer.name}")
    if layer.build_method is None:
        return content
    shutil.rmtree(directory, ignore_errors=True)
    python = directory / ("nodejs" if layer.build_method.startswith("nodejs") else "python")
    python.mkdir(parents=True)
    if layer.parent_packages:
        for package in layer.parent_packages:
            links.link(content, python.joinpath(*package.split(".")))
    else:
        for entry in content.iterdir():
            links.link(entry, python / entry.name)
    requirements = content / "requirements.txt"
    wanted = read_requirements(requirements) if requirements.is_file() else []
    links.add_dependencies(python, layer.dependencies, wanted)
    return directory


def merge_layers(directory: Path, layers: Sequence[Path], links: Links) -> Path:
    """One folder with all layers, a later one over an earlier one; a single layer's own folder serves as it is."""
    if len(layers) == 1:
        return layers[0]
    shutil.rmtree(directory, ignore_errors=True)
    _merge(directory, layers, links)
    return directory


def _merge(directory: Path, folders: Sequence[Path], links: Links) -> None:
    directory.mkdir(parents=True)
    names = {entry.name for folder in folders for entry in folder.iterdir()}
    for name in sorted(names):
        found = [links.target(folder / name) for folder in folders if links.target(folder / name).exists()]
        if not found:
            continue  # a link to nothing
        if len(found) > 1 and all(each.is_dir() for each in found):
            _merge(directory / name, found, links)
        else:
            links.link(found[-1], directory / name)
