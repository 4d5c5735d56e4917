"""`warmfront cold` on the command line: the default event, the options, and the messages for mistakes."""

import argparse
import json
from pathlib import Path

import pytest
from warmfront.bench.cold.cold_options import Subject
from warmfront.bench.cold.ramp import workload_text
from warmfront.bench.load.render import Renderer
from warmfront.bench.load.workloads import load_workloads
from warmfront.cli.cold import add_arguments, options_of
from warmfront.cli.main import main

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.13, CodeUri: .}
Resources:
  Shop:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.handler
      Events:
        Write: {Type: HttpApi, Properties: {Method: POST, Path: /things}}
        Read: {Type: HttpApi, Properties: {Method: GET, Path: "/things/{id}/parts/{part+}"}}
  Old:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.handler
      Environment: {Variables: {REDIS_URL: redis://localhost/0}}
      Events:
        Read: {Type: Api, Properties: {Method: GET, Path: "/old/{id}"}}
  Job:
    Type: AWS::Serverless::Function
    Properties: {Handler: app.handler}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / "app.py").write_text("def handler(event, context): ...\n")
    return tmp_path / "template.yaml"


def parsed(template: Path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([*arguments, "--template", str(template)])


def test_each_function_is_sent_a_get_of_its_first_such_route_in_its_own_format(template: Path) -> None:
    options = options_of(parsed(template, "Shop", "Old", "Job"))
    shop, old, job = ((each.described, json.loads(each.event)) for each in options.subjects)
    assert shop[0] == "GET /things/1/parts/1, payload 2.0"
    assert shop[1]["routeKey"] == "GET /things/{id}/parts/{part+}"
    assert shop[1]["pathParameters"] == {"id": "1", "part": "1"}
    assert shop[1]["requestContext"]["http"]["path"] == "/things/1/parts/1"
    assert old[0] == "GET /old/1, payload 1.0"
    assert (old[1]["resource"], old[1]["pathParameters"]) == ("/old/{id}", {"id": "1"})
    assert job == ("an empty event, {}", {})
    assert (options.needs.postgres, options.needs.redis) == (False, True)
    assert options.setup is None  # the shop's set-up is for the shop


def test_an_event_of_ones_own_is_sent_to_all(template: Path, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"own": 1}')
    options = options_of(parsed(template, "Shop", "Job", "--event", str(tmp_path / "event.json"), "--ways", "all"))
    assert [json.loads(each.event) for each in options.subjects] == [{"own": 1}] * 2
    assert options.ways == ("on-demand", "snap-start", "provisioned", "managed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Nobody"], "no function 'Nobody'"),
        (["Shop", "--ways", "lukewarm"], "'lukewarm' is not a way to start; choose from on-demand, snap-start"),
        (["Shop", "--n", "0"], "--n must be at least 1"),
        (["Shop", "--event", "missing.json"], "--event missing.json"),
    ],
)
def test_mistakes_are_one_line_that_names_them(
    template: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["cold", *arguments, "--template", str(template)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("warmfront cold: ")
    assert message in error
    assert error.count("\n") == 1


def test_the_ramp_asks_each_function_what_it_was_asked_alone(template: Path, tmp_path: Path) -> None:
    """An event is full of braces, and a workload's placeholders are written in braces."""
    subjects = [*options_of(parsed(template, "Shop")).subjects, Subject("Job", b'{"a": "{b:1..2}", "c": "\\n\\""}', "")]
    (tmp_path / "ramp.toml").write_text(workload_text(subjects))
    file = load_workloads(tmp_path / "ramp.toml")
    for subject in subjects:
        variant, workload = file.variant(subject.function), file.workload(subject.function)
        renderer = Renderer(workload, variant.prefix, host="h", headers={}, seed="1")
        head, _, body = renderer.exchanges(1)[0].first.partition(b"\r\n\r\n")
        assert head.startswith(f"POST /2015-03-31/functions/{subject.function}/invocations HTTP/1.1".encode())
        assert json.loads(body) == json.loads(subject.event)
