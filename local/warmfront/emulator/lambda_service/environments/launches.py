"""Turns a function of the template into the command, variables and folders its processes start with."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from warmfront.emulator.lambda_service import runtimes
from warmfront.emulator.lambda_service.environments import node_client, staging
from warmfront.emulator.lambda_service.environments.layers import merge_layers, stage_layer
from warmfront.emulator.lambda_service.environments.mount_namespace import FunctionMounts, MountNamespace
from warmfront.emulator.lambda_service.environments.node_client import NodeClient
from warmfront.emulator.lambda_service.environments.process_group import Launch
from warmfront.emulator.lambda_service.environments.variables import RESERVED, lambda_variables
from warmfront.emulator.lambda_service.runtimes import namespace as inside
from warmfront.emulator.lambda_service.runtimes.namespace import HOST
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
    namespace: MountNamespace | None = None
    """Gives processes folders as on Lambda; None: they see this machine's."""


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


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a function's folders lie on this machine, and where its processes see them."""

    task: Path
    layers: list[Path]
    """As on this machine: all merged in one where processes have mounts of their own."""
    seen_task: Path
    seen_layers: list[Path]
    mounts: FunctionMounts | None


class Launcher:
    """Makes launches; what has to be laid out is laid out anew each time, in fresh folders."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        namespace = surroundings.namespace
        self._links = staging.Links(HOST if namespace is not None else "")
        self._runtime_dir = staging.stage_runtime(
            surroundings.state_dir / "runtime", self._links, native_client=surroundings.native_client
        )
        self._seen_runtime = Path(inside.RUNTIME) if namespace is not None else self._runtime_dir
        self._debugger_dir = surroundings.state_dir / "debugger"

    def launch(self, config: FunctionConfig, *, debug_port: int | None = None) -> tuple[Launch, list[str]]:
        """A launch, and warnings. Raises StagingError."""
        placed, warnings = self._place(config)
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
            task_root=placed.seen_task,
            runtime_dir=self._seen_runtime,
            layers=tuple(placed.seen_layers),
            xray_address=self._surroundings.xray_address,
        )
        if config.runtime.startswith("provided"):
            return self._launch((str(_find_bootstrap(placed)),), variables, placed, own_bootstrap=False), warnings
        if config.runtime.startswith("nodejs"):
            return self._node_launch(config, variables, placed, warnings, debug_port), warnings
        if config.runtime != OWN_PYTHON:
            warnings.append(f"{config.logical_id}: {config.runtime} runs on this machine's {OWN_PYTHON}")
        if placed.mounts is not None:
            staging.compile_sources(self._sources(config))
        variables["WARMFRONT_PATHS"] = os.pathsep.join(map(str, self._python_paths(config, placed)))
        folder = os.environ.get("WARMFRONT_ANATOMY")
        if folder:  # only `warmfront cold` sets it, for an emulator that it does not time
            namespace = self._surroundings.namespace
            variables["WARMFRONT_ANATOMY"] = folder if namespace is None else namespace.writable_path(Path(folder))
        if debug_port is not None:
            variables["WARMFRONT_DEBUG"] = f"{debug_port}{os.pathsep}{self._stage_debugger()}"
        return self._launch(staging.python_command(BOOTSTRAP), variables, placed), warnings

    def _launch(
        self, argv: tuple[str, ...], variables: Mapping[str, str], placed: Placed, *, own_bootstrap: bool = True
    ) -> Launch:
        enters_itself = own_bootstrap
        wrapper = variables.get("AWS_LAMBDA_EXEC_WRAPPER")
        if wrapper and "AWS_EXECUTION_ENV" in variables:  # not with OS-only runtimes
            argv, enters_itself = self._wrapped(wrapper, argv, placed), False
        return Launch(
            argv,
            variables,
            placed.task,
            self._surroundings.credentials,
            placed.mounts,
            own_bootstrap=own_bootstrap,
            enters_itself=enters_itself,
        )

    def _wrapped(self, wrapper: str, argv: tuple[str, ...], placed: Placed) -> tuple[str, ...]:
        """The command as a wrapper script starts it (docs: lambda/latest/dg/runtimes-modify.html#runtime-wrapper)."""
        namespace = self._surroundings.namespace
        if namespace is not None:
            seen = (str(namespace.seen(Path(each))) if each.startswith("/") else each for each in argv)
            return (wrapper, *seen)
        if wrapper.startswith(f"{inside.TASK}/"):
            return (str(placed.task / wrapper.removeprefix(f"{inside.TASK}/")), *argv)
        inner = wrapper.removeprefix(f"{inside.LAYERS}/")
        found = (layer / inner for layer in reversed(placed.layers) if (layer / inner).exists())
        return (str(next(found, wrapper)), *argv)

    def _node_launch(
        self,
        config: FunctionConfig,
        variables: dict[str, str],
        placed: Placed,
        warnings: list[str],
        debug_port: int | None,
    ) -> Launch:
        client = self._surroundings.node_client
        assert client is not None
        if about := client.warning(config):
            warnings.append(about)
        if self._surroundings.namespace is not None:
            client = client.seen_by(self._surroundings.namespace.seen)
        del variables["PYTHONPATH"]
        of_node = client.variables(config, placed.seen_task, placed.seen_layers)
        return self._launch(
            client.command(config, debug_port=debug_port), {**of_node, **variables}, placed, own_bootstrap=False
        )

    def watched(self, config: FunctionConfig) -> list[Path]:
        """Folders and files that a change in makes the launch stale."""
        paths = [] if config.inline_code is not None else [config.code_path]
        return paths + [layer.content_path for layer in config.layers if layer.content_path is not None]

    def _sources(self, config: FunctionConfig) -> list[Path]:
        return [path for path in self.watched(config) if path.is_dir()]

    def _place(self, config: FunctionConfig) -> tuple[Placed, list[str]]:
        """Lay code and layers out, in a folder that no earlier launch has."""
        stage = Path(tempfile.mkdtemp(prefix=f"{config.logical_id}-", dir=self._stage_dir()))
        task, warnings = staging.stage_code(stage / "task", config, self._links)
        layers: list[Path] = []
        for layer in config.layers:
            if layer.content_path is None:
                warnings.append(
                    f"{config.logical_id}: layer {layer.name} is not in this template, so its packages are missing here:"
                    " list them in the function's requirements file, or add a layer with its content to the template"
                )
                continue
            layers.append(stage_layer(stage / "layers", layer, self._links))
        namespace = self._surroundings.namespace
        if namespace is None:
            return Placed(task, layers, task, layers, None), warnings
        merged = merge_layers(stage / "opt", layers, self._links) if layers else None
        mounts = FunctionMounts(namespace, task, merged, config.ephemeral_storage_mb)
        folders = [merged] if merged is not None else []
        return Placed(task, folders, Path(inside.TASK), [Path(inside.LAYERS)], mounts), warnings

    def _stage_dir(self) -> Path:
        folder = self._surroundings.state_dir / "stage"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _python_paths(self, config: FunctionConfig, placed: Placed) -> list[Path]:
        """As Lambda has them: the task root, then /opt, in which a later layer lies over an earlier one."""
        inner = (f"python/lib/{config.runtime}/site-packages", "python")
        pairs = list(zip(placed.layers, placed.seen_layers, strict=False))
        of_layers = [seen / each for folder, seen in reversed(pairs) for each in inner if self._is_dir(folder, each)]
        return [placed.seen_task, *of_layers, self._seen_runtime]

    def _is_dir(self, folder: Path, inner: str) -> bool:
        """Whether a folder is there, on the way to which there may be our links."""
        path = folder
        for part in inner.split("/"):
            path = self._links.target(path / part)
        return path.is_dir()

    def _stage_debugger(self) -> Path:
        if self._links.link_distributions(["debugpy"], self._debugger_dir):
            raise staging.StagingError(
                "--debug needs debugpy, which is not installed beside the emulator; `pip install 'warmfront[debug]'` brings it"
            )
        namespace = self._surroundings.namespace
        return self._debugger_dir if namespace is None else namespace.seen(self._debugger_dir)


def _bootstrap_file(config: FunctionConfig) -> Path | None:
    folders = [config.code_path, *(layer.content_path for layer in reversed(config.layers) if layer.content_path)]
    return next((folder / "bootstrap" for folder in folders if os.access(folder / "bootstrap", os.X_OK)), None)


def _find_bootstrap(placed: Placed) -> Path:
    """/var/task/bootstrap, else /opt/bootstrap (docs: lambda/latest/dg/runtimes-custom.html), as processes see it."""
    folders = [(placed.task, placed.seen_task)]
    folders += reversed(list(zip(placed.layers, placed.seen_layers, strict=False)))
    found = (seen / "bootstrap" for folder, seen in folders if os.path.lexists(folder / "bootstrap"))
    return next(found, placed.seen_task / "bootstrap")
