"""Where a runtime client for Node lies, and how it is started. Starts no function.

It is AWS's own from npm, `aws-lambda-ric` (github.com/aws/aws-lambda-nodejs-runtime-interface-client). Its native part takes a compiler to
install, so it is given to the emulator and not brought along.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from warmfront.emulator.lambda_service.environments.staging import StagingError
from warmfront.emulator.template import FunctionConfig

PACKAGE = "aws-lambda-ric"
MISSING = f"a Node runtime client is needed: `npm install {PACKAGE}` in a folder, and give it with --node-client FOLDER"

VERSION_S = 10.0


@dataclass(frozen=True, slots=True)
class NodeClient:
    """The client's entry and the Node it runs on."""

    node: str
    version: str
    """As in `nodejs22.x`: what stands between."""
    entry: Path
    modules: Path
    """The node_modules it was installed into: handlers find there what Lambda's runtime would hold."""

    def seen_by(self, seen: Callable[[Path], Path]) -> "NodeClient":
        """The same with paths as processes with private mounts see them."""
        return replace(self, node=str(seen(Path(self.node))), entry=seen(self.entry), modules=seen(self.modules))

    def command(self, config: FunctionConfig, *, debug_port: int | None = None) -> tuple[str, ...]:
        """`debug_port`: Node's inspector stops before the first line and waits there for a debugger, as with SAM CLI."""
        inspector = () if debug_port is None else (f"--inspect-brk=127.0.0.1:{debug_port}",)
        return (self.node, *inspector, str(self.entry), config.handler)

    def variables(self, config: FunctionConfig, root: Path, layers: Sequence[Path]) -> dict[str, str]:
        """Where `require` looks (docs: lambda/latest/dg/configuration-envvars.html, NODE_PATH); a later layer lies over an earlier one."""
        major = f"node{config.runtime.removeprefix('nodejs').removesuffix('.x')}"
        of_layers = [
            path
            for layer in reversed(layers)
            for path in (layer / f"nodejs/{major}/node_modules", layer / "nodejs/node_modules")
        ]
        return {"NODE_PATH": os.pathsep.join(str(path) for path in (*of_layers, self.modules, root))}

    def warning(self, config: FunctionConfig) -> str | None:
        """What differs from the function's own runtime."""
        if config.runtime == f"nodejs{self.version}.x":
            return None
        return f"{config.logical_id}: {config.runtime} runs on this machine's Node {self.version}"


def find_node_client(folder: Path) -> NodeClient:
    """The client in `folder`/node_modules. Raises StagingError."""
    modules = folder.resolve() / "node_modules"
    entry = _entry(modules / PACKAGE)
    node = shutil.which("node")
    if node is None:
        raise StagingError("--node-client needs `node` on PATH")
    return NodeClient(node, _version(node), entry, modules)


def _version(node: str) -> str:
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=VERSION_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise StagingError(
            f"--node-client: {node} does not say its version ({error}); mend it, or put another Node before it on PATH"
        ) from None
    return told.stdout.strip().removeprefix("v").partition(".")[0]


def _entry(package: Path) -> Path:
    """The script that the package's own `bin` names: it differs between the client's versions."""
    try:
        scripts = json.loads((package / "package.json").read_text(encoding="utf-8"))["bin"]
        return package / (scripts if isinstance(scripts, str) else scripts[PACKAGE])
    except (OSError, ValueError, KeyError, TypeError):
        raise StagingError(
            f"--node-client: {package} holds no {PACKAGE}; `npm install {PACKAGE}` in {package.parents[1]} puts it there"
        ) from None
