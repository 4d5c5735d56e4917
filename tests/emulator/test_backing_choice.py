"""Servers that a shell happens to name are left alone unless the command says otherwise."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from warmfront.backing.errors import BackingError
from warmfront.backing.executables import backing_of_shell
from warmfront.backing.postgres import Postgres
from warmfront.emulator.backing_services import BackingServices, choose_origins, is_loopback
from warmfront.emulator.function_variables import read_env_vars
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.options import StartError
from warmfront.emulator.set_up import run_set_up
from warmfront.emulator.template import SetUpCall

from tests.emulator.harness import function, template
from tests.emulator.serving import serve

TEMPLATE = """
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: index.handler
      InlineCode: "def handler(event, context): pass"
      Environment: {Variables: {DATABASE_URL: postgresql://localhost/shop}}
"""


def test_a_server_that_the_shell_names_gets_no_connection(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        foreign.settimeout(0)
        shell = {"DATABASE_URL": f"postgresql://me:secret@127.0.0.1:{foreign.getsockname()[1]}/precious"}
        with serve(tmp_path / "template.yaml", environ=shell) as served:
            served.wait_for("DATABASE_URL of the shell (127.0.0.1) is not used; --backing url would")
            assert not any("secret" in line for line in served.lines)
            served.client().invoke(FunctionName="F")
        with pytest.raises(BlockingIOError):
            foreign.accept()


def test_a_server_that_the_command_names_is_used_and_shown_with_its_host(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    with Postgres.start({"PATH": ""}, origin="wheel") as server:
        shell = {"DATABASE_URL": server.url("postgres")}
        with serve(tmp_path / "template.yaml", "--backing", "url", environ=shell) as served:
            served.wait_for(f"your server at 127.0.0.1:{server.port}")


def test_backing_url_without_an_address_is_refused() -> None:
    with pytest.raises(StartError, match="--backing url: DATABASE_URL not set"):
        choose_origins("url", {"DATABASE_URL"}, {})
    origins = choose_origins("url", {"DATABASE_URL", "REDIS_URL"}, {"REDIS_URL": "redis://x"})
    assert origins == {"DATABASE_URL": "auto", "REDIS_URL": "url"}
    assert choose_origins("auto", {"DATABASE_URL"}, {"DATABASE_URL": "x"})["DATABASE_URL"] == "auto"


def test_a_variable_of_the_shell_cannot_say_url() -> None:
    assert backing_of_shell({}) == "auto"
    with pytest.raises(BackingError, match="WARMFRONT_BACKING=url: must be auto, system or wheel"):
        backing_of_shell({"WARMFRONT_BACKING": "url"})


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("/run/postgresql", True),
        ("db.example", False),
        ("10.0.0.1", False),
    ],
)
def test_this_machine_is_told_from_others_without_asking_a_name_server(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_a_server_on_another_machine_is_not_seeded(capsys: pytest.CaptureFixture[str]) -> None:
    class NeverInvoked:
        async def invoke(self, *_args: object, **_more: object) -> Any:
            raise AssertionError("seeded")

    seeded = replace(template(function("Seed", "x.y")), set_up=(SetUpCall("Seed", b"{}"),))
    remote = Postgres("url", "16", app_url="postgresql://db.example/x", admin_url="postgresql://db.example/x")
    backing = BackingServices(postgres=remote)
    assert backing.remote == ["db.example:5432"]
    service = cast(LambdaService, NeverInvoked())
    asyncio.run(run_set_up(seeded, service, None, remote=backing.remote))
    assert "left out: db.example:5432 is not this machine; --seed-url runs it there" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="seeded"):
        asyncio.run(run_set_up(seeded, service, None))


def test_env_vars_become_text_as_sam_cli_makes_it(tmp_path: Path) -> None:
    (tmp_path / "env.json").write_text(
        '{"F": {"A": true, "B": false, "C": null, "D": [1], "E": {"x": 1}, "G": 1.5, "H": 7}}'
    )
    declared = dict.fromkeys("ABCDEGH", "old")
    found = read_env_vars(tmp_path / "env.json", template(function("F", "x.y", environment=declared)))
    assert found["F"] == {"A": "true", "B": "false", "C": "", "D": "", "E": "", "G": "1.5", "H": "7"}
