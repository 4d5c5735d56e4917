"""Hints for options of `sam local start-api` that `warmfront serve` names differently or does not need."""

from collections.abc import Sequence

PROCESSES = "functions run as processes here, without containers: leave it out"
INSTEAD = {
    "--add-host": PROCESSES,
    "--container-env-vars": "variables for a debugger go into --env-vars",
    "--container-host": PROCESSES,
    "--container-host-interface": PROCESSES,
    "--debug-args": "--debug NAME=PORT starts debugpy with the arguments that it needs",
    "--debugger-path": "install the extra `warmfront[debug]`, which brings debugpy, and use --debug NAME=PORT",
    "--disable-authorizer": "Lambda authorizers run as on AWS, and tokens are checked only with --enforce-auth: leave it out",
    "--docker-network": PROCESSES,
    "--docker-volume-basedir": PROCESSES,
    "--force-image-build": PROCESSES,
    "--hook-name": "run `terraform` or `cdk synth` first and serve the template it writes",
    "--invoke-image": PROCESSES,
    "--layer-cache-basedir": "layers are read from the template's folder: leave it out",
    "--mount-symlinks": "links in the code are followed: leave it out",
    "--no-memory-limit": "leave it out; give the function a larger MemorySize if it runs out of memory",
    "--shutdown": "processes always get SIGTERM at the end: leave it out",
    "--skip-pull-image": PROCESSES,
    "--ssl-cert-file": "put a TLS proxy in front: the emulator speaks HTTP on loopback",
    "--ssl-key-file": "put a TLS proxy in front: the emulator speaks HTTP on loopback",
    "--static-dir": "serve static files with another server, such as `python -m http.server`",
    "--warm-containers": "--warm N starts N environments of every function ahead of requests",
}
"""Option of SAM CLI -> what to use in its place. Fact: sam local start-api --help, SAM CLI 1.170."""


def sam_option_hint(arguments: Sequence[str]) -> str | None:
    """Return a hint about the first option of SAM CLI in `arguments` that this command does not have, or None."""
    for argument in arguments:
        name = argument.split("=")[0]
        if name in INSTEAD:
            return f"{name} is an option of SAM CLI: {INSTEAD[name]}"
    return None
