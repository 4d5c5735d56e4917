"""Starts serverless-offline on osls with the same two handlers, as `make bench-peer` installs it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from warmfront.bench.load.samples import Target

HERE = Path(__file__).parent
READY_S = 60.0


class PeerError(Exception):
    """The peer is not installed or does not answer."""


@contextmanager
def peer_server(folder: Path) -> Iterator[tuple[Target, int]]:
    """Run the peer that npm put in `folder`; gives its address and its process id.

    Raises PeerError when it is missing or does not answer within a minute; its output is in `folder/peer.log`.
    """
    folder = folder.resolve()
    program = folder / "node_modules" / ".bin" / "osls"
    if not program.exists():
        raise PeerError(f"no serverless-offline in {folder}: `make bench-peer` installs it (needs node and npm)")
    shutil.copy(HERE / "peer" / "serverless.yml", folder)
    shutil.copytree(HERE / "function", folder / "function", dirs_exist_ok=True)
    port, lambda_port = _free_port(), _free_port()
    arguments = ["--host", "127.0.0.1", "--httpPort", str(port), "--lambdaPort", str(lambda_port)]
    with (folder / "peer.log").open("w") as log:
        process = subprocess.Popen(
            [program, "offline", *arguments, "--noPrependStageInUrl"],
            cwd=folder,
            env=_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,  # its Python processes are children of shells: the group goes as one
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/silent/hello", process, folder)
            yield Target("127.0.0.1", port), process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment() -> dict[str, str]:
    """The peer looks for `python3` in VIRTUAL_ENV: the emulator's interpreter, so that both run the handlers on the same one."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "VIRTUAL_ENV": sys.prefix, "SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise PeerError(f"serverless-offline did not answer on {url}: see {folder / 'peer.log'}")
