"""Runs a local AWS: moto's server in its own process, so that its CPU time is not counted as the emulator's."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import BackingError
from .ports import LOOPBACK, on_free_port
from .process import Child
from .watcher import Watcher, get_watcher

READY = b"Running on http://"
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 3.0
DATA_FILE = "moto.pickle"


class Aws:
    """The AWS services that moto simulates, behind one endpoint."""

    def __init__(self, child: Child, port: int, version: str, work: Path, watcher: Watcher) -> None:
        self.version = version
        self.port = port
        self.endpoint_url = f"http://{LOOPBACK}:{port}"
        self._child: Child | None = child
        self._work = work
        self._watcher = watcher

    @classmethod
    def start(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        region: str = "us-east-1",
        data: Path | None = None,
        keep_open: tuple[int, ...] = (),
        lambda_endpoint: str | None = None,
        watcher: Watcher | None = None,
    ) -> Self:
        """Start moto's server on a free loopback port.

        Args:
            environ: where MOTO_* settings are read from (default: os.environ). Nothing else of it reaches the server,
                so real AWS credentials cannot leak into it.
            region: the server's default region.
            data: folder that keeps tables, objects, streams, secrets and parameters between runs (default: all is lost).
            keep_open: file descriptors that the server inherits, such as the lock of that folder.
            lambda_endpoint: address of the Lambda API that state machines invoke functions at (default: they find none).
            watcher: ends the server if this process is killed (default: the process's own).

        Raises:
            BackingError: moto is not installed, or the server did not start.
        """
        environ = os.environ if environ is None else environ
        watcher = watcher or get_watcher()
        version = _moto_version()
        work = Path(tempfile.mkdtemp(prefix="warmfront-aws-"))
        watcher.remove_on_exit(work)
        file = "-" if data is None else str(data / DATA_FILE)
        variables = _environ(region, work, environ)
        if lambda_endpoint is not None:
            variables["AWS_ENDPOINT_URL_LAMBDA"] = lambda_endpoint

        def start_on(port: int) -> Child:
            return _serve(port, version, file, variables, work, watcher, keep_open)

        try:
            child, port = on_free_port(lambda port: (start_on(port), port))
        except BaseException:
            _discard(work, watcher)
            raise
        return cls(child, port, version, work, watcher)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def describe(self) -> dict[str, object]:
        return {"origin": "moto", "version": self.version, "pid": self.pid, "port": self.port}

    def stop(self) -> None:
        if self._child:
            self._child.stop(grace_s=STOP_GRACE_S)
            self._child = None
            _discard(self._work, self._watcher)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _moto_version() -> str:
    try:
        return importlib.metadata.version("moto")
    except importlib.metadata.PackageNotFoundError:
        raise BackingError(
            "no local AWS: the package moto is not installed; run `pip install 'moto[server]'`, or use --aws none"
        ) from None


def _environ(region: str, work: Path, environ: Mapping[str, str]) -> dict[str, str]:
    settings = {name: value for name, value in environ.items() if name.startswith("MOTO_")}
    fake = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": region}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TMPDIR": str(work)} | fake | settings


def _serve(
    port: int,
    version: str,
    file: str,
    environ: Mapping[str, str],
    work: Path,
    watcher: Watcher,
    keep_open: tuple[int, ...],
) -> Child:
    child = Child.start(
        f"moto {version}",
        [sys.executable, "-P", "-m", "warmfront.backing.aws_server", file, "-H", LOOPBACK, "-p", str(port)],
        output=work / "moto.log",
        env=environ,
        watcher=watcher,
        keep_open=keep_open,
    )
    try:
        child.await_output(READY, timeout_s=READY_TIMEOUT_S)
    except BaseException:
        child.stop(grace_s=1.0)
        raise
    return child


def _discard(work: Path, watcher: Watcher) -> None:
    shutil.rmtree(work, ignore_errors=True)
    watcher.keep_on_exit(work)
