"""Options of an emulator, and the error raised when it cannot start."""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from warmfront.backing.executables import OriginChoice
from warmfront.emulator.lambda_service.environments.start_modes import StartChoice
from warmfront.emulator.lambda_service.service_options import ACCOUNT_CONCURRENCY


class StartError(Exception):
    """Why the emulator cannot start, in one line that names the fix."""


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Options of an emulator, from the command line. Names ending in `_s` are seconds."""

    template: Path = Path("template.yaml")
    parameters: Mapping[str, str] = field(default_factory=dict)
    config_file: Path | None = None
    config_env: str | None = None
    """samconfig's file and environment, as in SAM CLI; by default the file next to the template."""
    command: str = "local_start_api"
    """SAM CLI command whose section of samconfig is read; it overrides `global`."""
    built: bool | None = False
    """Serve the output of `sam build` in .aws-sam/build; None: if it is newer than the sources."""
    host: str = "127.0.0.1"
    port: int = 3000
    freeze: bool = True
    private_mounts: bool = True
    """Functions see their code read-only at /var/task, layers at /opt and a /tmp of their own, where this machine can do that."""
    native_client: bool = False
    node_client: Path | None = None
    """Folder with npm's aws-lambda-ric, which runs functions of Node."""
    idle_s: float = 600.0
    account_concurrency: int = ACCOUNT_CONCURRENCY
    time_scale: float = 1.0
    """Factor by which retries of asynchronous invocations come sooner than on AWS."""
    aws: Literal["auto", "local", "real", "none"] = "auto"
    """Which AWS handlers and event sources talk to; auto: a local one where the template needs it, else none."""
    event_sources: bool = True
    reload: bool = True
    warm: int = 0
    start: StartChoice = "template"
    provisioned: int = 1
    processes: int = 4
    debug: Sequence[str] = ()
    """NAME or NAME=PORT of functions that wait for a debugger."""
    log_file: Path | None = None
    log_format: Literal["auto", "text", "color", "json"] = "auto"
    env_vars: Path | None = None
    state_dir: Path | None = None
    token: str = field(default_factory=lambda: os.environ.get("WARMFRONT_TOKEN") or secrets.token_urlsafe(18))
    max_connections: int = 200
    enforce_auth: bool = False
    jwks: str | None = None
    trust_tokens: bool = False
    enforce_throttles: bool = False
    origin: OriginChoice = "auto"
    """Whose Postgres and Redis: the machine's before the wheels' (auto), one of these only, or those of DATABASE_URL and REDIS_URL."""
    seed_url: bool = False
    """Run the template's set-up invocations also against servers of DATABASE_URL and REDIS_URL that are not on this machine."""
    region: str | None = None
    """AWS region of ARNs, clients, the local AWS and handlers; None: from the shell or its AWS profile."""
    profile: str | None = None
    """Profile of ~/.aws/config, for `--aws real` and the region."""
    data: Path | None = None
    """Folder that keeps the data of Postgres, Redis and the local AWS between runs; None: nothing is kept."""
    reset: bool = False
    """Begin with an empty data folder."""
    set_up: bool = True
    """Run the set-up invocations that the template names."""
    install: bool = True
    """Install the requirements of functions and layers (requirements.txt, pyproject.toml, package.json)."""
    observe: bool = True
    """Metrics, traces and the access log."""
    metrics_hosts: Sequence[str] = ()
    """Names, besides addresses and localhost, under which metrics are scraped."""
    quiet_logs: bool = False
    """Do not print function logs on the terminal."""
