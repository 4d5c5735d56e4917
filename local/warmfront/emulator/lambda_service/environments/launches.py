"""Turns a function of the template into the command, variables and folders its processes start with. Starts nothing."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from warmfront.emulator.lambda_service import runtimes
from warmfront.emulator.lambda_service.environments import node_client, staging
from warmfront.emulator.lambda_service.environments.node_client import NodeClient
from warmfront.emulator.lambda_service.environments.process_group import Launch
from warmfront.emulator.lambda_service.environments.variables import RESERVED, lambda_variables
from warmfront.emulator.template import FunctionConfig

BOOTSTRAP = Path(runtimes.__file__).with_name("bootstrap.py")
OWN_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all functions have in common."""

    state_dir: Path
    region: str
    credentials: Callable[[], Mapping[str, str]]
    """Asked for whenever an environment starts."""
    environment: Callable[[FunctionConfig], Mapping[str, str]]
    """The template's variables of a function, with local addresses in place."""
    xray_address: str
    native_client: bool = False
    """The official client's own transport, in place of ours."""
    node_client: NodeClient | None = None
    """What runs functions of Node; None: they do not run here."""


def not_runnable(config: FunctionConfig, *, with_node: bool) -> str | None:
    """Why this machine cannot run the function, or None. `with_node`: a runtime client for Node is there."""
    if config.not_runnable is not None:
        return config.not_runnable
    if config.runtime.startswith("python3."):
        return None
    if config.runtime.startswith("provided"):
        return (
            None
            if _bootstrap_file(config) or config.code_path.is_file()
            else "its code has no executable file `bootstrap`"
        )
    if config.runtime.startswith("nodejs"):
        return None if with_node else f"runtime {config.runtime} is not on this machine: {node_client.MISSING}"
    return f"runtime {config.runtime} is not on this machine (Python and `provided` with a `bootstrap` file are)"


class Launcher:
    """Makes launches; what has to be laid out is laid out anew each time."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._runtime_dir = staging.stage_runtime(
            surroundings.state_dir / "runtime", native_client=surroundings.native_client
        )
        self._debugger_dir = surroundings.state_dir / "debugger"

    def launch(self, config: FunctionConfig, *, debug_port: int | None = None) -> tuple[Launch, list[str]]:
        """A launch, and warnings. Raises StagingError."""
        stage = self._surroundings.state_dir / "stage"
        root, warnings = staging.stage_code(stage / "functions" / config.logical_id, config)
        layers, about_layers = self._layers(config, stage)
        warnings += about_layers
        declared = self._surroundings.environment(config)
        if reserved := sorted(RESERVED & set(declared)):
            warnings.append(
                f"{config.logical_id}: {', '.join(reserved)} of its Environment are Lambda's own;"
                " a deployment with them fails, and here they have no effect"
            )
        variables = lambda_variables(
            config,
            declared,
            region=self._surroundings.region,
            task_root=root,
            runtime_dir=self._runtime_dir,
            layers=tuple(layers),
            xray_address=self._surroundings.xray_address,
        )
        credentials = self._surroundings.credentials
        if config.runtime.startswith("provided"):
            return Launch(
                (str(_find_bootstrap(root, layers)),), variables, root, credentials, own_bootstrap=False
            ), warnings
        if config.runtime.startswith("nodejs"):
            return self._node_launch(config, variables, root, layers, warnings)
        if config.runtime != OWN_PYTHON:
            warnings.append(f"{config.logical_id}: {config.runtime} runs on this machine's {OWN_PYTHON}")
        variables["WARMFRONT_PATHS"] = os.pathsep.join(map(str, self._python_paths(config, root, layers)))
        folder = os.environ.get("WARMFRONT_ANATOMY")
        if folder:  # only `warmfront cold` sets it, for an emulator that it does not time
            variables["WARMFRONT_ANATOMY"] = folder
        if debug_port is not None:
            variables["WARMFRONT_DEBUG"] = f"{debug_port}{os.pathsep}{self._stage_debugger()}"
        return Launch(staging.python_command(BOOTSTRAP), variables, root, credentials), warnings

    def _node_launch(
        self, config: FunctionConfig, variables: dict[str, str], root: Path, layers: list[Path], warnings: list[str]
    ) -> tuple[Launch, list[str]]:
        client = self._surroundings.node_client
        assert client is not None
        if about := client.warning(config):
            warnings.append(about)
        del variables["PYTHONPATH"]
        of_node = client.variables(config, root, layers)
        return Launch(
            client.command(config), {**of_node, **variables}, root, self._surroundings.credentials, own_bootstrap=False
        ), warnings

    def watched(self, config: FunctionConfig) -> list[Path]:
        """Folders and files that a change in makes the launch stale."""
        paths = [] if config.inline_code is not None else [config.code_path]
        return paths + [layer.content_path for layer in config.layers if layer.content_path is not None]

    def _layers(self, config: FunctionConfig, stage: Path) -> tuple[list[Path], list[str]]:
        folders: list[Path] = []
        warnings: list[str] = []
        for layer in config.layers:
            if layer.content_path is None:
                warnings.append(
                    f"{config.logical_id}: layer {layer.name} is not in this template, so its packages are missing here"
                )
                continue
            folder, missing = staging.stage_layer(stage / "layers" / layer.name, layer)
            folders.append(folder)
            warnings += missing
        return folders, warnings

    def _python_paths(self, config: FunctionConfig, root: Path, layers: list[Path]) -> list[Path]:
        """As Lambda has them: the task root, then /opt, in which a later layer lies over an earlier one."""
        of_layers = [
            path
            for layer in reversed(layers)
            for path in (layer / f"python/lib/{config.runtime}/site-packages", layer / "python")
        ]
        return [path for path in (root, *of_layers, self._runtime_dir) if path.is_dir()]

    def _stage_debugger(self) -> Path:
        if staging.link_distributions(["debugpy"], self._debugger_dir):
            raise staging.StagingError(
                "--debug needs debugpy, which is not installed beside the emulator; `pip install debugpy` there"
            )
        return self._debugger_dir


def _bootstrap_file(config: FunctionConfig) -> Path | None:
    folders = [config.code_path, *(layer.content_path for layer in reversed(config.layers) if layer.content_path)]
    return next((folder / "bootstrap" for folder in folders if os.access(folder / "bootstrap", os.X_OK)), None)


def _find_bootstrap(root: Path, layers: list[Path]) -> Path:
    """/var/task/bootstrap, else /opt/bootstrap (docs: lambda/latest/dg/runtimes-custom.html)."""
    candidates = [folder / "bootstrap" for folder in (root, *reversed(layers))]
    return next((path for path in candidates if path.exists()), candidates[0])
