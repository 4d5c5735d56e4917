"""Runs moto's server, and keeps what tables, buckets, streams, secrets and parameters hold from one run to the next.

`python -m warmfront.backing.aws_server FILE ...`: FILE holds the data (- for none), the rest are moto_server's arguments.
Queues, topics and executions begin empty: moto holds locks and timers in them, which cannot be written down.

State machines are executed, and their Lambda tasks invoke functions at AWS_ENDPOINT_URL_LAMBDA where it is set.
FIFO queues deduplicate as those of SQS do.
"""

import contextlib
import importlib
import importlib.metadata
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warmfront.backing.fifo_queues import deduplicate_as_sqs

KEPT = {"dynamodb": "tables", "kinesis": "streams", "s3": "buckets", "secretsmanager": "secrets", "ssm": "_parameters"}
"""Service -> attribute of moto's backend that holds its data."""
PUBLIC_PARAMETERS = "/aws/"
"""AWS's own parameters, which moto brings itself."""
SAVE_EVERY_S = 5.0
"""A run that is killed loses at most what it has done in this time."""
PLAIN = {"bytearray", "complex", "dict", "frozenset", "list", "object", "set", "tuple"}


class Keeper:
    """Writes the data to a file when it may have changed, and reads them back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.changed = threading.Event()

    def load(self) -> None:
        """Put the kept data into moto's backends; data of another version of moto are left alone."""
        try:
            content = _Unpickler(self._path.open("rb")).load()
        except FileNotFoundError:
            return
        except Exception as error:  # damaged, or of another version: nothing in it is worth a start that fails
            print(f"{self._path}: not read: {error}", flush=True)
            return
        if content["moto"] != importlib.metadata.version("moto"):
            return
        for service, account, region, value in content["data"]:
            backend = _backends(service)[account][region]
            if service == "ssm":
                for name, versions in value.items():
                    backend._parameters[name] = versions
            else:
                setattr(backend, KEPT[service], value)
            if service == "s3":
                owners = importlib.import_module("moto.s3.models").s3_backends.bucket_accounts
                owners.update(dict.fromkeys(value, (region, account)))

    def save(self) -> None:
        """Write everything, in one step."""
        with self._lock:
            self.changed.clear()
            content = {"moto": importlib.metadata.version("moto"), "data": list(_held())}
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                pickle.dump(content, file)
            fresh.replace(self._path)

    def run(self) -> None:
        """Save now and then, for ever."""
        pause = threading.Event()
        while True:
            self.changed.wait()
            pause.wait(SAVE_EVERY_S)
            with contextlib.suppress(RuntimeError):  # a table that grows meanwhile; the next round has it
                self.save()


class _Unpickler(pickle.Unpickler):
    """Makes moto's own classes and plain data, and calls nothing else: the file lies in a project's folder."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("builtins", "collections", "datetime", "decimal", "copyreg"):
            if module != "builtins" or name in PLAIN:
                return super().find_class(module, name)
        elif module.startswith("moto.") and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__.startswith("moto."):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not data of moto")


def _backends(service: str) -> Any:
    module = importlib.import_module(f"moto.{service}.models")
    return getattr(module, f"{service}_backends")


def _held() -> Iterator[tuple[str, str, str, Any]]:
    for service, attribute in KEPT.items():
        if f"moto.{service}.models" not in sys.modules:
            continue
        for account, regions in list(_backends(service).items()):
            for region, backend in list(regions.items()):
                value = getattr(backend, attribute)
                if service == "ssm":
                    value = {name: list(each) for name, each in value.items() if not name.startswith(PUBLIC_PARAMETERS)}
                if value:
                    yield service, account, region, value


def main() -> None:
    """Serve until SIGTERM, then save."""
    from moto import server
    from moto.core.config import default_user_config

    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    deduplicate_as_sqs()
    _lead_lambda_calls(os.environ.get("AWS_ENDPOINT_URL_LAMBDA"))
    keeper = Keeper(Path(sys.argv[1])) if sys.argv[1] != "-" else None
    if keeper is not None:
        keeper.load()
        _note_requests(keeper)
        threading.Thread(target=keeper.run, daemon=True).start()
    try:
        server.main(sys.argv[2:])
    finally:
        if keeper is not None:
            keeper.save()


def _note_requests(keeper: Keeper) -> None:
    from moto.moto_server import werkzeug_app

    serve = werkzeug_app.DomainDispatcherApplication.__call__

    def serve_and_note(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        keeper.changed.set()
        return serve(self, environ, start_response)

    werkzeug_app.DomainDispatcherApplication.__call__ = serve_and_note  # type: ignore[method-assign]


def _lead_lambda_calls(endpoint_url: str | None) -> None:
    """moto's state machines call Lambda at moto's own address, which has no functions."""
    if endpoint_url is None:
        return
    import boto3

    make_client = boto3.client

    def client(service_name: str, **settings: Any) -> Any:
        if service_name == "lambda":
            settings["endpoint_url"] = endpoint_url
        return make_client(service_name, **settings)

    boto3.client = client


if __name__ == "__main__":
    main()
