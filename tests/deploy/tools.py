"""The command lines a person would type to check, build and deploy, run in a copy of the project."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.template import read_samconfig

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-deploy"
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
HOST = ARCHITECTURES[platform.machine()]
OTHER = next(name for name in ARCHITECTURES.values() if name != HOST)
# What Lambda's Python has besides the standard library: docs.aws.amazon.com/lambda/latest/dg/python-package.html
RUNTIME_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3", "snapshot_restore_py")
_USERS = {"JwtIssuer": "https://issuer.example", "JwtAudience": "shop"}
_DEPLOYED = ("template.yaml", "data-tier.yaml", "samconfig.toml", ".python-version", "functions", "shared")
_NOT_A_VALUE = ("AWS_", "SAM_", "VIRTUAL_ENV", "PYTHONPATH")


class Failed(AssertionError):
    """A command ended with another status than 0; says what it printed."""


@dataclass(frozen=True, slots=True)
class Built:
    """What `sam build` left behind."""

    folder: Path

    @property
    def template(self) -> Path:
        return self.folder / "template.yaml"

    @property
    def layer(self) -> Path:
        return self.folder / "SharedLayer" / "python"


@dataclass(frozen=True, slots=True)
class Project:
    """A copy of what is deployed, which a test may change."""

    folder: Path

    @classmethod
    def copy(cls, target: Path, source: Path = ROOT) -> "Project":
        target.mkdir(parents=True)
        for name in _DEPLOYED:
            if (source / name).is_dir():
                shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (source / name).exists():
                shutil.copy2(source / name, target / name)
        return cls(target)

    def plant(self, name: str, old: str, new: str) -> None:
        """A mistake, which has to have a place."""
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r} to plant a mistake in"
        path.write_text(text.replace(old, new))

    @contextlib.contextmanager
    def changed(self, name: str, old: str, new: str) -> Iterator[None]:
        """For as long as it takes to build it so: what was fetched for the last build need not be fetched again."""
        before = (self.folder / name).read_text()
        self.plant(name, old, new)
        try:
            yield
        finally:
            (self.folder / name).write_text(before)

    def sam(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        return run([str(VENV / "bin" / "sam"), *arguments], cwd=self.folder, environ=environ or {})

    def parameters(self, environment: str) -> dict[str, str]:
        """Those of samconfig.toml, with what only its user can decide, for an artefact of this machine's architecture."""
        return {
            **read_samconfig(self.folder, environment=environment).parameter_overrides("deploy"),
            **_USERS,
            "Architecture": HOST,
        }

    def deploy(self, built: Built, environment: str, data: Mapping[str, str], url: str, *more: str) -> str:
        """The shop over a data tier with these outputs. A command line gives all parameters at once, or none."""
        where = ("-t", str(built.template), "--config-file", str(self.folder / "samconfig.toml"))
        overrides = [f"{name}={value}" for name, value in {**self.parameters(environment), **data}.items()]
        command = (*where, *more, "--config-env", environment, "--parameter-overrides", *overrides)
        return self._deploy(command, url)

    def deploy_data(self, environment: str, url: str, **parameters: str) -> str:
        """data-tier.yaml, by the names that samconfig.toml gives to its environments; it needs no build."""
        given = {**read_samconfig(self.folder, environment=environment).parameter_overrides("deploy"), **parameters}
        overrides = [f"{name}={value}" for name, value in given.items()]
        return self._deploy(("--config-env", environment, "--parameter-overrides", *overrides), url)

    def _deploy(self, command: Sequence[str], url: str) -> str:
        unasked = ("--no-confirm-changeset", "--no-progressbar")
        environ = {"AWS_ENDPOINT_URL": url, "SAM_CLI_POLL_DELAY": "0.5"}
        return self.sam("deploy", *unasked, *command, environ=environ)

    def build(self, architecture: str, name: str = "built") -> Built:
        built = Built(self.folder / name)
        parameters = f"Stage=dev Architecture={architecture}"
        where = ("--build-dir", str(built.folder), "--cache-dir", str(self.folder / "cache"))
        self.sam("build", *where, "--parameter-overrides", parameters)
        return built


def environment(more: Mapping[str, str] | None = None, *, only: tuple[str, ...] = ("",)) -> dict[str, str]:
    """This process's, less anything that could reach a real account, with SAM CLI's Python first; `only` these prefixes."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_A_VALUE)}
    everything = {
        **environ,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{environ['PATH']}",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_CHECK_VERSION": "0",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **(more or {}),
    }
    return {name: value for name, value in everything.items() if name.startswith(only)}


def run(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], stdin: str | None = None, timeout_s: float = 240
) -> str:
    """Both streams as one text; raises Failed with it."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(environ),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def lint(template: Path) -> str:
    """cfn-lint's findings; the empty string when there are none."""
    lint = str(Path(sys.executable).with_name("cfn-lint"))
    # W2001: the transform puts the value of a parameter of the API in its place.
    # W1028: it nests the condition of a function in itself, once for its path and once for its method.
    command = [lint, "--non-zero-exit-code", "none", "--ignore-checks", "W1028", "W2001", "--", str(template)]
    return run(command, cwd=template.parent, environ={}).strip()


def parsed(text: str) -> dict[str, Any]:
    """A template's text, with its short tags as what they stand for."""
    from samtranslator.yaml_helper import yaml_parse

    document: dict[str, Any] = yaml_parse(text)
    return document


def with_code_in_s3(template: Path, uris: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A template as `sam package` leaves it. `uris`: those of resources whose content is to be another one."""
    document = parsed(template.read_text())
    for name, resource in document["Resources"].items():
        for key in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            resource["Properties"][key] = (uris or {}).get(name, f"s3://bucket/{name}")
    return document


@dataclass(frozen=True, slots=True)
class Call:
    """What a bare interpreter saw of one handler."""

    answers: list[Any]
    origins: dict[str, str]
    before_snapshot: list[str]
    lines: list[dict[str, Any]]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines that CloudWatch turns into metrics (EMF)."""
        return [line for line in self.lines if "_aws" in line]


def runtime_packages(target: Path) -> Path:
    """A folder of what the managed runtime brings along, and nothing that only this environment has."""
    import boto3

    site = Path(boto3.__file__).parents[1]
    target.mkdir()
    for name in RUNTIME_PACKAGES:
        found = next(path for path in (site / name, site / f"{name}.py") if path.exists())
        (target / found.name).symlink_to(found)
    return target


def call(
    handler: str, events: Sequence[Any], *, folders: Sequence[Path], environ: Mapping[str, str], scratch: Path
) -> Call:
    """The handler in a bare interpreter: -I and -S, so that nothing of this machine can be imported by chance."""
    output = scratch / "call.json"
    isolated = Path(__file__).with_name("isolated.py")
    command = [str(VENV / "bin" / "python"), "-I", "-S", "-B", str(isolated), handler, str(output), *map(str, folders)]
    done = subprocess.run(
        command,
        cwd=scratch,
        env={"PATH": "/usr/bin:/bin", "LAMBDA_TASK_ROOT": str(folders[0]), **environ},
        input=json.dumps(events),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{handler} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    seen = json.loads(output.read_text())
    return Call(seen["answers"], seen["origins"], seen["before_snapshot"], lines)


def require_tools() -> None:
    if not (VENV / "bin" / "sam").exists():
        pytest.fail(
            "SAM CLI is not installed in .venv-deploy; run `make test-deploy`, which installs it", pytrace=False
        )
