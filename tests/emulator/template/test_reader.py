"""What the reader says beyond samtranslator's words: code on disk, layers, values that only AWS knows, the build folder."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from warmfront.emulator.template import HttpIntegration, LayerConfig, ScheduleSource, SqsSource, Template, load_template

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(autouse=True)
def _no_region_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)


def load(tmp_path: Path, text: str, **parameters: str) -> Template:
    path = tmp_path / "template.yaml"
    path.write_text(textwrap.dedent(text))
    return load_template(path, parameters=parameters)


def test_code_paths_are_absolute_and_beside_the_template() -> None:
    template = load_template(FIXTURES / "layers.yaml")
    assert template.functions["Naive"].code_path == FIXTURES / "functions" / "naive"
    assert template.functions["Naive"].not_runnable is None


def test_parent_package_mode_auto_takes_the_folders_that_handler_and_code_uri_share() -> None:
    assert load_template(FIXTURES / "layers.yaml").functions["Naive"].parent_package == ("functions", "naive")


def test_parent_package_mode_explicit_takes_what_it_names() -> None:
    assert load_template(FIXTURES / "layers.yaml").functions["Nested"].parent_package == ("app", "api")


def test_a_function_without_build_properties_has_its_code_at_the_task_root() -> None:
    assert load_template(FIXTURES / "rest_hello_world.yaml").functions["HelloWorldFunction"].parent_package == ()


def test_layers_come_with_what_sam_build_would_do_to_them() -> None:
    built, shared, foreign = load_template(FIXTURES / "layers.yaml").functions["Naive"].layers
    assert built == LayerConfig(
        name="built-layer", content_path=FIXTURES / "layer", compatible_runtimes=("python3.13",)
    )
    assert shared.content_path == FIXTURES / "shared"
    assert (shared.parent_packages, shared.build_method) == (("shared",), "python3.13")
    assert foreign.content_path is None
    assert foreign.arn is not None
    assert foreign.name == "AWSLambdaPowertoolsPythonV3-python313-x86_64"


def test_an_image_function_is_listed_with_the_reason_it_does_not_run() -> None:
    reason = load_template(FIXTURES / "layers.yaml").functions["NotRunnableImage"].not_runnable
    assert reason is not None
    assert "container image" in reason


def test_inline_code_is_code() -> None:
    function = load_template(FIXTURES / "layers.yaml").functions["Inline"]
    assert function.inline_code is not None
    assert "inline" in function.inline_code
    assert function.not_runnable is None


def test_missing_code_is_a_reason_that_names_the_folder(tmp_path: Path) -> None:
    template = load(tmp_path, """
        Resources:
          F: {Type: AWS::Serverless::Function, Properties: {CodeUri: nowhere/, Handler: a.b, Runtime: python3.13}}
        """)  # fmt: skip
    reason = template.functions["F"].not_runnable
    assert reason is not None
    assert str(tmp_path / "nowhere") in reason


@pytest.mark.parametrize("code", ["s3://bucket/key", "{Bucket: b, Key: k}"])
def test_code_in_s3_does_not_run_here(tmp_path: Path, code: str) -> None:
    template = load(tmp_path, f"""
        Resources:
          F: {{Type: AWS::Serverless::Function, Properties: {{CodeUri: {code}, Handler: a.b, Runtime: python3.13}}}}
        """)  # fmt: skip
    assert template.functions["F"].not_runnable is not None


def test_a_plain_lambda_function_is_a_function_too(tmp_path: Path) -> None:
    template = load(tmp_path, """
        Resources:
          F:
            Type: AWS::Lambda::Function
            Properties: {Code: ./, Handler: app.handler, Runtime: python3.13, FunctionName: plain, Timeout: "7"}
        """)  # fmt: skip
    assert (template.functions["F"].function_name, template.functions["F"].timeout_s) == ("plain", 7)
    assert template.function_named("plain") is template.functions["F"]
    assert template.function_named("F") is template.functions["F"]
    assert template.function_named("other") is None


def test_references_between_resources_have_local_values() -> None:
    environment = load_template(FIXTURES / "events.yaml").functions["Worker"].environment
    assert environment == {
        "QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/orders.fifo",
        "QUEUE_ARN": "arn:aws:sqs:us-east-1:123456789012:orders.fifo",
        "QUEUE_NAME": "orders.fifo",
        "SELF": "Clock",
        "ARN": "arn:aws:lambda:us-east-1:123456789012:function:Clock",
    }


def test_attributes_given_by_the_caller_win() -> None:
    template = load_template(
        FIXTURES / "events.yaml", attributes={"Queue": "http://127.0.0.1:1/q", "Clock.Arn": "mine"}
    )
    environment = template.functions["Worker"].environment
    assert (environment["QUEUE_URL"], environment["ARN"]) == ("http://127.0.0.1:1/q", "mine")


def test_an_attribute_without_local_value_is_empty_and_warned_about(tmp_path: Path) -> None:
    template = load(tmp_path, """
        Resources:
          Db: {Type: AWS::RDS::DBInstance}
          F:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: ./
              Handler: app.handler
              Runtime: python3.13
              Environment:
                Variables:
                  HOST: !GetAtt Db.Endpoint.Address
                  URL: !Sub "postgres://${Db.Endpoint.Address}/shop"
                  IMPORTED: !ImportValue other-stack
                  PART: !Select [6, !Split [":", !GetAtt Db.DBInstanceArn]]
        """)  # fmt: skip
    assert template.functions["F"].environment == {"HOST": "", "URL": "postgres:///shop", "IMPORTED": "", "PART": ""}
    assert any(":12: Db.Endpoint.Address has no local value" in warning for warning in template.warnings)
    assert any(":14: ImportValue other-stack" in warning for warning in template.warnings)


def test_what_nobody_asks_for_is_not_resolved(tmp_path: Path) -> None:
    template = load(tmp_path, """
        Resources:
          Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: !Cidr [a, 1, 2]}}
          F:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: ./
              Handler: app.handler
              Runtime: python3.13
              Policies: [{Statement: [{Resource: !Ref Nowhere}]}]
        Outputs: {X: {Value: !GetAtt Nothing.Arn}}
        """)  # fmt: skip
    assert list(template.functions) == ["F"]
    assert template.warnings == ()


def test_the_region_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert load_template(FIXTURES / "plain.json").functions["Hello"].environment["NAME"] == "a-eu-central-1"


def test_event_sources_are_data() -> None:
    worker, often, never, new = load_template(FIXTURES / "events.yaml").event_sources
    assert worker == SqsSource(
        function="Worker", event="Orders", queue_arn="arn:aws:sqs:us-east-1:123456789012:orders.fifo",
        queue_name="orders.fifo", batch_size=5, report_batch_item_failures=True, maximum_concurrency=2,
    )  # fmt: skip
    assert often == ScheduleSource(
        function="Clock", event="Often", expression="rate(5 minutes)", name="ClockOften", input='{"job": "often"}'
    )
    assert isinstance(never, ScheduleSource)
    assert not never.enabled
    assert isinstance(new, ScheduleSource)
    assert (new.scheduler, new.timezone) == (True, "Europe/Berlin")


def test_queues_are_data_for_the_local_aws() -> None:
    queues = load_template(FIXTURES / "events.yaml").queues
    assert (queues["Queue"].fifo, queues["Queue"].visibility_timeout_s, queues["Queue"].max_receive_count) == (
        True,
        60,
        5,
    )
    assert queues["Queue"].dead_letter_arn == queues["Dead"].arn


def test_an_event_that_is_not_emulated_is_named_with_its_line() -> None:
    (unserved,) = load_template(FIXTURES / "events.yaml").unserved
    assert (unserved.where, unserved.what, unserved.line) == ("Clock.Bucket", "SNS events are not sent", 50)


def test_stage_and_throttles_of_an_explicit_api() -> None:
    api = load_template(FIXTURES / "http_explicit.yaml").apis[0]
    assert api.throttle is not None
    assert (api.throttle.rate_per_s, api.throttle.burst) == (5.5, 10)
    assert api.route_throttles["GET /slow"].burst == 1


def test_media_types_of_a_rest_api_are_written_with_a_slash() -> None:
    api = load_template(FIXTURES / "rest_hello_world.yaml").apis[0]
    assert (api.kind, api.stage, api.binary_media_types) == ("rest", "Prod", ("image/png",))
    assert api.cors is not None
    assert api.cors.allow_origins == ("*",)


def test_an_http_proxy_is_a_route_without_a_function() -> None:
    routes = load_template(FIXTURES / "openapi.yaml").apis[0].routes
    assert [route.key for route in routes] == [
        "GET /items/{id}", "DELETE /items/{id}", "GET /elsewhere", "ANY /extra",
    ]  # fmt: skip
    assert (routes[2].function, routes[2].integration) == ("", HttpIntegration("https://elsewhere.example", "GET"))


def test_an_integration_that_is_not_served_is_warned_about(tmp_path: Path) -> None:
    text = (FIXTURES / "openapi.yaml").read_text().replace("type: http_proxy", "type: aws")
    (tmp_path / "template.yaml").write_text(text)
    template = load_template(tmp_path / "template.yaml")
    assert "GET /elsewhere" not in [route.key for route in template.apis[0].routes]
    assert any("GET /elsewhere integrates aws, which is not served;" in warning for warning in template.warnings)


def test_a_streaming_function_url_is_warned_about() -> None:
    (warning,) = load_template(FIXTURES / "urls.yaml").warnings
    assert "Closed: InvokeMode RESPONSE_STREAM is not emulated" in warning


def test_a_definition_in_a_file_of_its_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text(
        textwrap.dedent("""
        openapi: 3.0.1
        paths:
          /hello:
            get:
              x-amazon-apigateway-integration:
                type: aws_proxy
                uri: !Sub "arn:aws:apigateway:x:lambda:path/2015-03-31/functions/${F.Arn}/invocations"
        """)
    )
    template = load(tmp_path, """
        Resources:
          Api:
            Type: AWS::Serverless::HttpApi
            Properties:
              DefinitionBody: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: api.yaml}}}
          F: {Type: AWS::Serverless::Function, Properties: {CodeUri: ./, Handler: a.b, Runtime: python3.13}}
        """)  # fmt: skip
    assert [route.key for route in template.apis[0].routes] == ["GET /hello"]


def test_the_build_folder_is_read_with_built(tmp_path: Path) -> None:
    build = tmp_path / ".aws-sam" / "build"
    (build / "F").mkdir(parents=True)
    (build / "template.yaml").write_text(
        textwrap.dedent("""
        Resources:
          F:
            Type: AWS::Serverless::Function
            Metadata: {BuildProperties: {ParentPackageMode: explicit, ParentPackages: app}}
            Properties: {CodeUri: F, Handler: app.main.handler, Runtime: python3.13}
        """)
    )
    function = load_template(tmp_path / "template.yaml", built=True).functions["F"]
    assert function.code_path == build / "F"
    assert function.built
    assert function.parent_package == ()  # sam build has moved the code under it already


def test_loading_a_template_imports_no_boto3_and_no_samtranslator() -> None:
    code = (
        "import sys; from warmfront.emulator.template import load_template; load_template(sys.argv[1]);"
        "print([name for name in ('boto3', 'samtranslator', 'asyncio', 'starlette') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(FIXTURES / "http_implicit.yaml")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
