"""Installs dependencies into `.warmfront/dependencies/`, once for each set of them.

Packages of the emulator's own environment are used where they meet every requirement, because that costs nothing.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from warmfront.emulator.dependencies.requirements import Requirements, read_project, unmet
from warmfront.emulator.template import FunctionConfig, LayerConfig, Template

INSTALL_TIMEOUT_S = 900
LINES_OF_ERROR = 3


class InstallError(Exception):
    """An installer that failed; the message is the end of what it said."""


@dataclass(slots=True)
class Installer:
    """Installs into one cache folder and remembers what it did."""

    cache: Path
    say: Callable[[str], None]
    """Takes a line of progress."""
    install: bool = True
    """False: nothing is installed, and what is missing is named."""
    warnings: list[str] = field(default_factory=list)
    _known: dict[tuple[str, Path], Path | None] = field(default_factory=dict)

    def of_template(self, template: Template) -> Template:
        """The template with `dependencies` of its functions and layers filled in."""
        functions: dict[str, FunctionConfig] = {}
        for logical_id, config in template.functions.items():
            layers = tuple(replace(layer, dependencies=self._of_layer(layer)) for layer in config.layers)
            functions[logical_id] = replace(config, dependencies=self._of_function(config), layers=layers)
        return replace(template, functions=functions)

    def _of_function(self, config: FunctionConfig) -> Path | None:
        if config.built or config.not_runnable or config.inline_code is not None or not config.code_path.is_dir():
            return None
        return self._of_folder(config.logical_id, config.code_path, config.runtime)

    def _of_layer(self, layer: LayerConfig) -> Path | None:
        if layer.build_method is None or layer.content_path is None or not layer.content_path.is_dir():
            return None
        return self._of_folder(layer.name, layer.content_path, layer.build_method)

    def _of_folder(self, owner: str, folder: Path, runtime: str) -> Path | None:
        kind = "node" if runtime.startswith(("nodejs", "esbuild")) else "python"
        if kind == "python" and not runtime.startswith("python"):
            return None
        if (kind, folder) not in self._known:
            try:
                made = self._node(owner, folder) if kind == "node" else self._python(owner, folder)
            except (OSError, ValueError, InstallError) as error:
                self.warnings.append(f"{owner}: {error}")
                made = None
            self._known[kind, folder] = made
        return self._known[kind, folder]

    def _python(self, owner: str, folder: Path) -> Path | None:
        wanted = read_project(folder)
        if wanted is None:
            return None
        missing = unmet(wanted.lines, folder)
        if not missing and not wanted.special:
            return None
        names = ", ".join(missing or wanted.special)
        if not self.install:
            self.warnings.append(f"{owner}: {wanted.path}: {names} is not installed; leave --no-install out")
            return None
        try:
            return self._cached(
                f"{wanted.path.name} of {owner}", _python_key(wanted), lambda target: _pip(wanted, target)
            )
        except InstallError as error:
            raise InstallError(f"{wanted.path}: missing here: {names}; it could not be installed: {error}") from None

    def _node(self, owner: str, folder: Path) -> Path | None:
        manifest = folder / "package.json"
        if not manifest.is_file() or (folder / "node_modules").exists():
            return None
        wanted: Mapping[str, object] = json.loads(manifest.read_text(encoding="utf-8")).get("dependencies", {})
        if not wanted:
            return None
        names = ", ".join(wanted)
        if not self.install:
            self.warnings.append(f"{owner}: {manifest}: {names} is not installed; leave --no-install out")
            return None
        files = [path for path in (manifest, folder / "package-lock.json", folder / ".npmrc") if path.is_file()]
        key = _key("node", platform.machine(), *(path.read_text(encoding="utf-8") for path in files))
        try:
            return self._cached(f"package.json of {owner}", key, lambda target: _npm(files, target))
        except InstallError as error:
            raise InstallError(f"{manifest}: missing here: {names}; it could not be installed: {error}") from None

    def _cached(self, what: str, key: str, install: Callable[[Path], None]) -> Path:
        """The folder for this key, filled by `install` if it is not there yet."""
        final = self.cache / key
        if final.is_dir():
            return final
        self.cache.mkdir(parents=True, exist_ok=True)
        ignore = self.cache.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        self.say(f"installing {what}")
        work = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self.cache))
        try:
            install(work)
            work.chmod(0o755)
            try:
                work.rename(final)
            except OSError:
                if not final.is_dir():  # another emulator has been faster
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return final


def _python_key(wanted: Requirements) -> str:
    return _key("python", ".".join(map(str, sys.version_info[:2])), platform.machine(), *wanted.texts)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _pip(wanted: Requirements, target: Path) -> None:
    """uv where it is, else pip; both read -r, -c, hashes and index options as the file's author wrote them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = wanted.path
        if path.suffix == ".toml":  # only what the project depends on, not the project
            path = Path(scratch) / "requirements.txt"
            path.write_text("\n".join(wanted.lines), encoding="utf-8")
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv is not None:
            command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
        else:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*command, "--target", str(target), "-r", str(path)], wanted.path.parent)


def _npm(files: list[Path], target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InstallError("npm is not on this machine")
    for path in files:
        shutil.copy(path, target / path.name)
    verb = "ci" if (target / "package-lock.json").is_file() else "install"
    _run([npm, verb, "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"], target)


def _run(command: list[str], folder: Path) -> None:
    # Not the emulator's own PYTHONPATH: an installer must not take its packages for the target's.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if Path("/etc/ssl/certs").is_dir():  # the machine's certificates: a company's network may have its own
        environ = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", **environ}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"{Path(command[0]).name} did not end within {INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InstallError(f"{Path(command[0]).name}: " + " ".join(said[-LINES_OF_ERROR:]))
