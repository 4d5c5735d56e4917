"""Runs inside an execution environment: makes the interpreter look like Lambda's, then hands over to the official runtime client.

Started by path (never imported), so it may import nothing of the emulator's. It owns the order of init, because the runtime client's native
module fixes its endpoint when it is loaded.
"""

import sys
import time

_began_ns = time.monotonic_ns()

import os  # noqa: E402

TYPE_CHECKING = False  # the module `typing` would be an import of the handler's cold start
if TYPE_CHECKING:
    import types

    from awslambdaric.lambda_multi_concurrent_utils import MultiConcurrentRunner

_note_path = ""
_here = os.path.dirname(__file__)  # noqa: PTH120


def _note_to(path: str) -> None:
    global _note_path
    _note_path = path


def _note(**milestones: object) -> None:
    """Append one line of milestones (CLOCK_MONOTONIC nanoseconds) for the emulator to read when it is asked."""
    import json

    with open(_note_path, "a", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would be an import of the handler's cold start
        file.write(json.dumps(milestones) + "\n")


def _like_lambda(paths: list[str]) -> None:
    """sys.path as Lambda has it (task root, layers, then the runtime's own packages) and the builtins that `-S` leaves out."""
    sys.path[0:0] = [path for path in paths if path not in sys.path]
    import _sitebuiltins
    import builtins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))
    builtins.help = _sitebuiltins._Helper()


def _watch_first_spans() -> None:
    """Time the first connect and the first query of asyncpg once, then put the originals back: warm invocations see neither.

    `tcp` lies within `connect` (the rest of which is authentication), `prepare` within `first_query`. `secret`: the first call to AWS.
    """
    client = sys.modules.get("botocore.client")
    if client is not None:
        _time_first_call(client.BaseClient, "_make_api_call", "secret")
    connect_utils = sys.modules.get("asyncpg.connect_utils")
    connection = sys.modules.get("asyncpg.connection")
    if connect_utils is None or connection is None:
        return
    _time_first(connect_utils, "_connect", "connect")
    _time_first(connection.Connection, "_do_execute", "first_query")
    _time_first(connection.Connection, "_get_statement", "prepare")
    loops = sys.modules.get("asyncio.base_events")
    if loops is not None:
        _time_first(loops.BaseEventLoop, "create_connection", "tcp")


def _time_first(owner: object, attribute: str, name: str) -> None:
    original = getattr(owner, attribute)

    async def timed(*args: object, **kwargs: object) -> object:
        setattr(owner, attribute, original)
        start_ns = time.monotonic_ns()
        try:
            return await original(*args, **kwargs)
        finally:
            _note(span=name, start_ns=start_ns, end_ns=time.monotonic_ns())

    setattr(owner, attribute, timed)


def _time_first_call(owner: object, attribute: str, name: str) -> None:
    """The same of a plain function."""
    original = getattr(owner, attribute)

    def timed(*args: object, **kwargs: object) -> object:
        setattr(owner, attribute, original)
        start_ns = time.monotonic_ns()
        try:
            return original(*args, **kwargs)
        finally:
            _note(span=name, start_ns=start_ns, end_ns=time.monotonic_ns())

    setattr(owner, attribute, timed)


def _enter_namespace(entry: str) -> None:
    """Mount Lambda's folders. Afterwards this machine's are under HOST, and those that /tmp and /opt cover only there."""
    global _here
    folder, _, text = entry.partition("\n")
    sys.path.insert(0, folder)
    import warmfront_namespace as inside  # type: ignore[import-not-found]

    del sys.path[0]
    inside.enter(text)
    _here = inside.HOST + _here
    hidden = (f"{inside.TMP}/", f"{inside.LAYERS}/", f"{inside.TASK}/", f"{inside.RUNTIME}/")
    own = inside.RUNTIME  # PYTHONPATH has put it there already
    sys.path[:] = [inside.HOST + each if each.startswith(hidden) and each != own else each for each in sys.path]
    sys.path_importer_cache.clear()  # the interpreter has looked for folders that are only there now
    if sys.executable.startswith(hidden):
        sys.executable = inside.HOST + sys.executable


def _record_anatomy(folder: str) -> None:
    """`warmfront cold` takes this process apart; its recorder lies beside this file, and is no module that anybody could import."""
    path = os.path.join(_here, "anatomy.py")  # noqa: PTH118
    recorder: dict[str, object] = {"__name__": "anatomy"}
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        exec(compile(file.read(), path, "exec"), recorder)
    recorder["start"](folder)  # type: ignore[operator]


def _wait_for_debugger(where: str) -> None:
    port, _, folder = where.partition(os.pathsep)
    sys.path.append(folder)
    import debugpy

    debugpy.listen(("127.0.0.1", int(port)))
    print(f"waiting for a debugger on 127.0.0.1:{port}", flush=True)
    debugpy.wait_for_client()


def _zygote() -> "types.ModuleType":
    """The module beside this file; by path, as this one is started."""
    import importlib.util

    path = os.path.join(_here, "zygote.py")  # noqa: PTH118
    spec = importlib.util.spec_from_file_location("warmfront_zygote", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _quiet_runner() -> "type[MultiConcurrentRunner]":
    """The official client's way to run several processes; each ends without a traceback when the emulator hangs up."""
    from awslambdaric.lambda_multi_concurrent_utils import MultiConcurrentRunner

    class Runner(MultiConcurrentRunner):  # type: ignore[misc]
        @classmethod
        def run_single(cls, *arguments: object) -> None:
            try:
                super().run_single(*arguments)
            except RuntimeError:
                time.sleep(0)  # as below
                sys.exit(0)

    return Runner


def _run(handler: str, control_fd: str | None) -> None:
    zygote = None
    if control_fd is not None:
        zygote = _zygote()
        zygote.hold_native()
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    client_ns = time.monotonic_ns()
    # The client frames its messages on this descriptor, and closes it; what handlers print goes the same way.
    log_fd = os.dup(1)
    os.environ["_LAMBDA_TELEMETRY_LOG_FD"] = str(log_fd)
    find_handler = bootstrap._get_handler

    def find_and_note(name: str) -> object:
        try:
            return find_handler(name)
        finally:
            _note(bootstrap_ns=_began_ns, client_ns=client_ns, imports_done_ns=time.monotonic_ns())
            _watch_first_spans()

    bootstrap._get_handler = find_and_note
    address = os.environ["AWS_LAMBDA_RUNTIME_API"]
    try:
        # AWS_EXECUTION_ENV would make the client poll on a new thread for every invocation, so that signal handlers run while it waits.
        # Here the emulator wakes a waiting client at shutdown instead: same effect for handlers, without 0.2 ms an invocation.
        if (processes := os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY")) is not None:
            _quiet_runner().run_concurrent(handler, address, False, None, int(processes))
            return
        client = LambdaRuntimeClient(address, use_thread_for_polling_next=False)
        if zygote is not None:
            zygote.Zygote(int(control_fd or 0), client, log_fd, _note, _note_to)
        bootstrap.run(handler, client)
    except RuntimeError:
        time.sleep(0)  # the emulator hung up: a SIGTERM handler that is due runs here
        sys.exit(0)


def main() -> None:
    environ = os.environ
    paths = environ.pop("WARMFRONT_PATHS").split(os.pathsep)
    _note_to(environ.pop("WARMFRONT_MILESTONES"))
    control_fd = environ.pop("WARMFRONT_SNAPSHOT", None)
    handler = environ["_HANDLER"]
    if (entry := environ.pop("WARMFRONT_NAMESPACE", None)) is not None:
        _enter_namespace(entry)
    sys.argv = ["/var/runtime/bootstrap.py", handler]
    _like_lambda(paths)
    if "WARMFRONT_ANATOMY" in environ:
        _record_anatomy(environ.pop("WARMFRONT_ANATOMY"))
    if "WARMFRONT_DEBUG" in environ:
        _wait_for_debugger(environ.pop("WARMFRONT_DEBUG"))
    _run(handler, control_fd)


main()
