"""The private parts of uvicorn that the gateway uses: in which versions they are there, and that one module alone knows them."""

import ast
import inspect
from pathlib import Path

import uvicorn
import warmfront
from uvicorn.protocols.http import httptools_impl
from warmfront.emulator.gateway.http_protocol import UVICORN

PACKAGE = Path(warmfront.__file__).parent


def test_the_installed_version_is_one_that_was_tried() -> None:
    assert uvicorn.__version__ in UVICORN, (
        f"uvicorn {uvicorn.__version__} is new here: read the diff of httptools_impl.py, run tests/emulator/gateway, and"
        " add it to UVICORN in http_protocol.py"
    )


def test_what_is_used_is_there() -> None:
    protocol, cycle = httptools_impl.HttpToolsProtocol, httptools_impl.RequestResponseCycle
    assert [*inspect.signature(protocol.__init__).parameters] == [
        "self", "config", "server_state", "app_state", "_loop",
    ]  # fmt: skip
    assert [*inspect.signature(protocol._start_asgi_task).parameters] == ["self", "cycle", "app"]
    for name in ("on_message_begin", "on_header", "on_headers_complete", "on_message_complete", "on_response_complete"):
        assert callable(getattr(protocol, name))
    source = inspect.getsource(cycle)
    for name in ("disconnected", "response_started", "response_complete", "keep_alive", "default_headers"):
        assert f"self.{name} = " in source
    for name in ("waiting_for_100_continue", "message_event", "on_response", "scope"):
        assert f"self.{name} = " in source
    assert "self.flow = FlowControl(" in inspect.getsource(protocol)
    assert httptools_impl.STATUS_LINE[200].startswith(b"HTTP/1.1 200 ")
    assert hasattr(uvicorn.Server, "capture_signals")


def test_one_module_knows_them() -> None:
    knowing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uvicorn."):
                knowing.add(path.relative_to(PACKAGE).as_posix())
    assert knowing == {"emulator/gateway/http_protocol.py"}
