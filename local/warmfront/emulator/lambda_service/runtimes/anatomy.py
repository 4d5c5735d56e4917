"""Takes one init and one invocation apart from inside the process, for `warmfront cold`. Measures, and judges nothing.

Loaded by the bootstrap, by path and only where the emulator was told to (never in a timed run): what is noted here costs some 5 % of an
init. It may import nothing, since whatever it imported would be missing from the tree of imports that it draws.
"""

import builtins
import os
import sys
import time

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Where well-known clients begin what an invocation waits for: module -> (owner inside it, attribute, name of the span).
# Each is timed once and then put back. What none of these covers is in the handler's own time.
_ENTRIES = {
    "socket": [("socket", "connect", "connect"), ("", "getaddrinfo", "resolve")],
    "ssl": [("SSLSocket", "do_handshake", "tls")],
    "asyncio.base_events": [
        ("BaseEventLoop", "create_connection", "connect"),
        ("BaseEventLoop", "getaddrinfo", "resolve"),
    ],
    "asyncpg.connect_utils": [("", "_connect", "connect (Postgres)")],
    "asyncpg.connection": [("Connection", "_get_statement", "prepare"), ("Connection", "_do_execute", "first query")],
    "psycopg": [("Connection", "connect", "connect (Postgres)")],
    "psycopg2": [("", "connect", "connect (Postgres)")],
    "pymysql": [("", "connect", "connect (MySQL)")],
    "redis.connection": [("AbstractConnection", "connect", "connect (Redis)")],
    "redis.asyncio.connection": [("AbstractConnection", "connect", "connect (Redis)")],
    "urllib3.connectionpool": [("HTTPConnectionPool", "urlopen", "request (HTTP)")],
    "http.client": [("HTTPConnection", "request", "request (HTTP)")],
    "botocore.client": [("BaseClient", "_make_api_call", "call (AWS)")],
    "boto3": [("", "client", "client (AWS)"), ("", "resource", "client (AWS)")],
}
SPANS_MAX = 40


class Recorder:
    """One process's imports and first spans, as a file of its own in `folder`."""

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, "wanted"), encoding="utf-8") as file:  # noqa: PTH123, PTH118 - no pathlib here
            self._structure = file.read().strip() == "structure"
        self._resolved: dict[str, str] = {}
        self._path = os.path.join(folder, f"{os.getpid()}.anatomy")  # noqa: PTH118
        self._began_ns = time.monotonic_ns()
        self._imports: list[list[object]] = []  # name, parent's place, start, end, memory before, memory after
        self._open: list[int] = []
        self._edges: dict[tuple[str, str], list[object]] = {}
        self._spans: list[dict[str, object]] = []
        self._opened: list[dict[str, object]] = []
        self._handler_from = self._handler_to = -1
        self._imports_done_ns = 0

    # -- imports -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        importlib = sys.modules["_frozen_importlib"]
        find_and_load = importlib._find_and_load
        clock, imports, opened = time.monotonic_ns, self._imports, self._open

        def timed(name: str, import_: object) -> object:
            place = len(imports)
            record: list[object] = [name, opened[-1] if opened else -1, 0, 0, 0, 0]
            imports.append(record)
            opened.append(place)
            if self._structure:
                record[4] = _resident_bytes()
            record[2] = clock()
            try:
                return find_and_load(name, import_)
            finally:
                record[3] = clock()
                if self._structure:
                    record[5] = _resident_bytes()
                opened.pop()
                if name == "awslambdaric.bootstrap":
                    self._watch_handler()

        importlib._find_and_load = timed  # type: ignore[attr-defined]
        if self._structure:
            self._watch_edges(importlib)

    def _watch_edges(self, importlib: object) -> None:
        """Who imports whom, those included that are there already: what can be left out is what nobody else asks for."""
        original = builtins.__import__

        def noted(name, globals=None, locals=None, fromlist=(), level=0):  # type: ignore[no-untyped-def]
            module = original(name, globals, locals, fromlist, level)
            if globals is not None:
                importer = globals.get("__name__") or "?"
                package = globals.get("__package__") or ""
                if level:
                    base = package.rsplit(".", level - 1)[0] if level > 1 else package
                    name = f"{base}.{name}" if name else base
                self._edge(importer, name)
                for item in fromlist or ():
                    if f"{name}.{item}" in sys.modules:
                        self._edge(importer, f"{name}.{item}")
            return module

        builtins.__import__ = noted
        gcd_import = importlib._gcd_import  # type: ignore[attr-defined]

        def noted_gcd(name, package=None, level=0):  # type: ignore[no-untyped-def]
            """`importlib.import_module`: its caller's caller is who wants the module."""
            frame = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__") in ("importlib", "importlib._bootstrap"):
                frame = frame.f_back  # type: ignore[assignment]
            if not level and frame is not None:
                self._edge(frame.f_globals.get("__name__") or "?", name, frame.f_lineno)
            return gcd_import(name, package, level)

        importlib._gcd_import = noted_gcd  # type: ignore[attr-defined]

    def _edge(self, importer: str, name: str, line: int = 0) -> None:
        if (importer, name) not in self._edges:
            self._edges[importer, name] = [importer, name, line or sys._getframe(2).f_lineno]

    def _watch_handler(self) -> None:
        bootstrap = sys.modules["awslambdaric.bootstrap"]
        get_handler = bootstrap._get_handler

        def noted(name: str) -> object:
            self._handler_from = len(self._imports)
            try:
                return get_handler(name)
            finally:
                self._imports_done_ns = time.monotonic_ns()
                self._handler_to = len(self._imports)
                self._watch_spans()
                self.write()

        bootstrap._get_handler = noted  # type: ignore[attr-defined]

    # -- what the first invocation waits for ---------------------------------------------------------------------------

    def _watch_spans(self) -> None:
        sys.addaudithook(self._audit)
        for module_name, entries in _ENTRIES.items():
            module = sys.modules.get(module_name)
            for owner_name, attribute, name in entries if module is not None else []:
                owner = getattr(module, owner_name, None) if owner_name else module
                if owner is not None and getattr(owner, attribute, None) is not None:
                    self._time_first(owner, attribute, name)

    def _time_first(self, owner: object, attribute: str, name: str) -> None:
        own = vars(owner).get(attribute)
        original = getattr(owner, attribute)
        awaited = original.__code__.co_flags & 0x80 if hasattr(original, "__code__") else 0
        static = isinstance(own, classmethod | staticmethod)

        def restore() -> None:
            if own is not None:
                setattr(owner, attribute, own)
            elif attribute in vars(owner):  # inherited: what stood before it is seen again
                delattr(owner, attribute)

        if awaited:

            async def timed(*args: object, **kwargs: object) -> object:
                restore()
                span = self._begin(name, "")
                try:
                    return await original(*args, **kwargs)
                finally:
                    self._end(span)
        else:

            def timed(*args: object, **kwargs: object) -> object:  # type: ignore[misc]
                restore()
                span = self._begin(name, str(args[1]) if name == "call (AWS)" and len(args) > 1 else "")
                try:
                    return original(*args, **kwargs)
                finally:
                    self._end(span)

        setattr(owner, attribute, staticmethod(timed) if static else timed)

    def _begin(self, name: str, detail: str) -> dict[str, object]:
        span: dict[str, object] = {"name": name, "detail": detail, "start_ns": time.monotonic_ns(), "end_ns": 0}
        self._spans.append(span)
        self._opened.append(span)
        return span

    def _end(self, span: dict[str, object]) -> None:
        span["end_ns"] = time.monotonic_ns()
        if span in self._opened:
            self._opened.remove(span)
        if not self._opened:
            self.write()

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        """Every connect by Python, whoever's client it is: the address of the span it is part of, or an instant by itself."""
        if event != "socket.connect":
            return
        address = args[1]
        detail = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
        if self._opened:
            for span in self._opened:
                span["detail"] = span["detail"] or detail
        elif len(self._spans) < SPANS_MAX:
            now = time.monotonic_ns()
            self._spans.append({"name": "connect (socket)", "detail": detail, "start_ns": now, "end_ns": now})
            self.write()

    # -- the file ------------------------------------------------------------------------------------------------------

    def _on_this_machine(self, origin: str) -> str:
        """Where a module of /opt or /var/runtime lies for the emulator: links there lead into this machine's root."""
        for folder in sys.path:
            if folder.startswith(("/opt", "/var/runtime")) and origin.startswith(f"{folder}/"):
                top, _, rest = origin[len(folder) + 1 :].partition("/")
                path = f"{folder}/{top}"
                if path not in self._resolved:
                    self._resolved[path] = os.path.realpath(path).removeprefix("/.warmfront/host")
                return f"{self._resolved[path]}/{rest}" if rest else self._resolved[path]
        return origin

    def write(self) -> None:
        """All of it anew, as Python writes it (json would be an import): a process may be stopped for good after any invocation."""
        origins: dict[str, str | None] = {}
        for name in {str(record[0]) for record in self._imports}:
            spec = getattr(sys.modules.get(name), "__spec__", None)
            origin = getattr(spec, "origin", None)
            origins[name] = self._on_this_machine(origin) if isinstance(origin, str) else None
        document = {
            "structure": self._structure,
            "began_ns": self._began_ns,
            "imports_done_ns": self._imports_done_ns,
            "handler_from": self._handler_from,
            "handler_to": self._handler_to,
            "handler": os.environ.get("_HANDLER", ""),
            "imports": self._imports,
            "edges": list(self._edges.values()),
            "origins": origins,
            "standard": sorted({name.partition(".")[0] for name in origins} & sys.stdlib_module_names),
            "spans": self._spans,
        }
        draft = f"{self._path}.draft"
        with open(draft, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(repr(document))
        os.replace(draft, self._path)  # noqa: PTH105


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * _PAGE


def start(folder: str) -> None:
    Recorder(folder).start()
