"""Functions of Node under a runtime client that is given: a small one stands for npm's, whose native part takes a compiler."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.environments import node_client
from warmfront.emulator.lambda_service.environments.node_client import find_node_client
from warmfront.emulator.lambda_service.environments.staging import StagingError
from warmfront.emulator.template import LayerConfig

from tests.emulator.harness import Harness, function, running
from tests.emulator.serving import serve

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")

CLIENT = """
import { createRequire } from "node:module";
import { join } from "node:path";

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;
const [file, name] = process.argv[2].split(".");
const handler = createRequire(join(process.cwd(), "x.js"))(join(process.cwd(), file))[name];
for (;;) {
  const next = await fetch(`${api}/invocation/next`);
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const event = await next.json();
  let kind = "response", body;
  try {
    body = await handler(event, { awsRequestId: id });
  } catch (error) {
    [kind, body] = ["error", { errorType: error.name, errorMessage: error.message }];
  }
  await (await fetch(`${api}/invocation/${id}/${kind}`, { method: "POST", body: JSON.stringify(body) })).text();
}
"""
HANDLER = """
exports.handler = async (event, context) => {
  console.log("node got", JSON.stringify(event));
  if (event === "error") throw new TypeError("refused");
  if (event === "crash") process.exit(3);
  return { event, id: context.awsRequestId, cwd: process.cwd(), word: require("from-a-layer").word, variables: process.env };
};
"""
API = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: nodejs22.x
      Handler: index.handler
      InlineCode: |
        exports.handler = async (event) => ({ statusCode: 201, body: `hello ${event.pathParameters.name}` });
      Events: {Get: {Type: HttpApi, Properties: {Method: GET, Path: "/hello/{name}"}}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("node")
    package = root / "client/node_modules/aws-lambda-ric"
    files = {
        package / "package.json": json.dumps({"bin": {"aws-lambda-ric": "bin/index.mjs"}}),
        package / "bin/index.mjs": CLIENT,
        root / "code/index.js": HANDLER,
        root / "layer/nodejs/node_modules/from-a-layer/index.js": "exports.word = 'layered';",
        root / "api/template.yaml": API,
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[Harness]:
    layers = (LayerConfig("l", root / "layer"),)
    hello = function(
        "hello", "index.handler", runtime="nodejs8.x", code_path=root / "code", layers=layers, environment={"MINE": "1"}
    )
    with running(root / "run", hello, node_client=find_node_client(root / "client")) as harness:
        yield harness


def test_a_handler_of_node_has_its_folder_its_layer_and_lambdas_variables(service: Harness, root: Path) -> None:
    outcome = service.invoke("hello", {"a": 1})
    found = outcome.payload
    assert (found["event"], found["id"]) == ({"a": 1}, outcome.result.request_id)
    assert (found["cwd"], found["word"]) == (str(root / "code"), "layered")
    variables = found["variables"]
    assert variables["AWS_EXECUTION_ENV"] == "AWS_Lambda_nodejs8.x"
    assert variables["MINE"] == "1"
    assert str(root / "client/node_modules") in variables["NODE_PATH"]
    assert not [name for name in variables if name.startswith(("WARMFRONT", "PYTHON"))]


def test_it_starts_cold_stays_warm_and_logs_as_any_other(service: Harness) -> None:
    service.run(service.service.find("hello").retire())
    outcome = service.invoke("hello", "x")
    assert outcome.lines[0].startswith("INIT_START Runtime Version: nodejs:8.x.warmfront\t")
    assert 'node got "x"' in outcome.lines
    assert outcome.cold
    assert not service.invoke("hello", "y").cold


def test_its_answers_may_come_over_another_connection_than_its_events(service: Harness) -> None:
    service.invoke("hello")
    outcomes = [service.invoke("hello", index) for index in range(20)]
    assert [each.payload["event"] for each in outcomes] == list(range(20))
    assert not any(each.cold for each in outcomes)


def test_its_errors_and_its_end_are_passed_on(service: Harness) -> None:
    outcome = service.invoke("hello", "error")
    assert outcome.result.function_error == "Unhandled"
    assert outcome.payload == {"errorType": "TypeError", "errorMessage": "refused"}
    assert service.invoke("hello", "crash").payload["errorType"] == "Runtime.ExitError"
    assert service.invoke("hello", 1).payload["event"] == 1


def test_another_node_is_warned_about(service: Harness) -> None:
    assert any("hello: nodejs8.x runs on this machine's Node " in text for text in service.service.warnings)


def test_a_folder_without_the_client_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        StagingError, match=r"holds no aws-lambda-ric; `npm install aws-lambda-ric` in .* puts it there"
    ):
        find_node_client(tmp_path)


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1", "#!/bin/sh\nexec sleep 60", "#!/nowhere/sh"])
def test_a_node_that_does_not_run_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    node = root / "broken/node"
    node.parent.mkdir(exist_ok=True)
    node.write_text(script + "\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(node.parent), prepend=os.pathsep)
    monkeypatch.setattr(node_client, "VERSION_S", 0.3)
    with pytest.raises(StagingError, match=r"broken/node does not say its version \(.+\); mend it, or put another"):
        find_node_client(root / "client")


def test_serve_runs_node_where_a_client_is_given(root: Path) -> None:
    with serve(root / "api/template.yaml", "--node-client", str(root / "client")) as served:
        assert (
            served.client()
            .invoke(FunctionName="Hello", Payload=json.dumps({"pathParameters": {"name": "you"}}))["Payload"]
            .read()
            == b'{"statusCode":201,"body":"hello you"}'
        )
    with serve(root / "api/template.yaml") as served:
        (line,) = [line for line in served.lines if line.startswith("function ")]
        assert "not runnable: runtime nodejs22.x" in line
        assert "--node-client FOLDER" in line
