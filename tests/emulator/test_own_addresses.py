"""A template's own addresses lead to this machine: of APIs, and of function URLs; so does a host with two addresses."""

import socket
from pathlib import Path

import pytest
from warmfront.emulator.options import EmulatorOptions, StartError
from warmfront.emulator.own_addresses import OwnAddresses
from warmfront.emulator.servers import bind
from warmfront.emulator.template import Template, load_template

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: ./, Handler: a.b, Runtime: python3.13}}
Resources:
  Rest: {Type: AWS::Serverless::Api, Properties: {StageName: v1}}
  Http: {Type: AWS::Serverless::HttpApi}
  A:
    Type: AWS::Serverless::Function
    Properties:
      FunctionUrlConfig: {AuthType: NONE}
      Environment:
        Variables:
          REST: !Sub "https://${Rest}.execute-api.${AWS::Region}.amazonaws.com/v1/items"
          JOINED: !Join ["", ["https://", !Ref Rest, ".execute-api.", !Ref AWS::Region, ".", !Ref AWS::URLSuffix, "/", !Ref Rest.Stage]]
          HTTP: !Sub "https://${Http}.execute-api.${AWS::Region}.${AWS::URLSuffix}"
          ENDPOINT: !GetAtt Http.ApiEndpoint
          IMPLICIT: !Sub "https://${ServerlessRestApi}.execute-api.${AWS::Region}.amazonaws.com/Prod/a"
          URL: !GetAtt AUrl.FunctionUrl
          HOST: !Sub "${Http}.execute-api.${AWS::Region}.amazonaws.com"
          TWO: !Sub "https://${Http}.execute-api.us-east-1.amazonaws.com,https://${Rest}.execute-api.us-east-1.amazonaws.com/v1"
          FOREIGN: https://abcdefghij.execute-api.us-east-1.amazonaws.com/v1
          OTHER: https://example.com/execute-api
      Events:
        One: {Type: Api, Properties: {Path: /items, Method: get, RestApiId: !Ref Rest}}
        Two: {Type: HttpApi, Properties: {Path: /a, Method: get, ApiId: !Ref Http}}
        Three: {Type: Api, Properties: {Path: /a, Method: get}}
"""


@pytest.fixture
def template(tmp_path: Path) -> Template:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return load_template(tmp_path / "template.yaml", region="us-east-1")


def test_variables_with_own_addresses_lead_to_this_machine(template: Template) -> None:
    kinds = [f"http://127.0.0.1:{3000 + index}" for index in range(len(template.apis))]
    ports = {api.logical_id: url for api, url in zip(template.apis, kinds, strict=True)}
    found = OwnAddresses(template, kinds).localized(template.functions["A"].environment)
    rest, http = ports["Rest"], ports["Http"]
    assert found == {
        "REST": f"{rest}/v1/items",
        "JOINED": f"{rest}/v1",
        "HTTP": http,
        "ENDPOINT": http,
        "IMPLICIT": f"{ports['ServerlessRestApi']}/Prod/a",
        "URL": f"{ports['AUrl']}/",
        "HOST": http.removeprefix("http://"),
        "TWO": f"{http},{rest}/v1",
        "FOREIGN": "https://abcdefghij.execute-api.us-east-1.amazonaws.com/v1",
        "OTHER": "https://example.com/execute-api",
    }
    assert template.warnings == ()


RAW = """
Resources:
  F:
    Type: AWS::Lambda::Function
    Properties:
      Handler: index.handler
      Runtime: python3.13
      FunctionName: shop
      Code: {ZipFile: "def handler(event, context): pass"}
      Environment:
        Variables:
          HTTP: !Sub "https://${Http}.execute-api.${AWS::Region}.amazonaws.com/a"
          ENDPOINT: !GetAtt Http.ApiEndpoint
          REST: !Sub "https://${Rest}.execute-api.${AWS::Region}.amazonaws.com/prod/p"
          URL: !GetAtt Url.FunctionUrl
  Url: {Type: AWS::Lambda::Url, Properties: {AuthType: NONE, TargetFunctionArn: !GetAtt F.Arn}}
  Http: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: n, ProtocolType: HTTP, Target: !GetAtt F.Arn}}
  Rest: {Type: AWS::ApiGateway::RestApi, Properties: {Name: r}}
  Part: {Type: AWS::ApiGateway::Resource, Properties: {RestApiId: !Ref Rest, ParentId: !GetAtt Rest.RootResourceId, PathPart: p}}
  Get:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Rest
      ResourceId: !Ref Part
      HttpMethod: GET
      AuthorizationType: NONE
      Integration:
        Type: AWS_PROXY
        IntegrationHttpMethod: POST
        Uri: !Sub "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations"
"""


def test_so_do_those_of_resources_without_sam(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(RAW)
    template = load_template(tmp_path / "template.yaml", region="us-east-1")
    urls = [f"http://127.0.0.1:{3000 + index}" for index in range(len(template.apis))]
    ports = {api.logical_id: url for api, url in zip(template.apis, urls, strict=True)}
    assert OwnAddresses(template, urls).localized(template.functions["F"].environment) == {
        "HTTP": f"{ports['Http']}/a",
        "ENDPOINT": ports["Http"],
        "REST": f"{ports['Rest']}/prod/p",
        "URL": f"{ports['FUrl']}/",
    }


def _families(host: str, port: int = 0) -> tuple[set[int], int, str]:
    listener = bind(EmulatorOptions(host=host, port=port), 1)[0]
    try:
        return {each.family for each in listener.sockets}, listener.port, listener.url
    finally:
        listener.close()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="the machine has no IPv6 loopback address ::1")


@needs_ipv6
def test_an_ipv6_address_is_listened_on() -> None:
    families, port, url = _families("::1")
    assert (families, url) == ({socket.AF_INET6}, f"http://[::1]:{port}")


@needs_ipv6
def test_localhost_listens_on_both_families_with_one_port() -> None:
    listeners = bind(EmulatorOptions(host="localhost", port=0), 2)
    try:
        for each in listeners:
            assert {found.family for found in each.sockets} == {socket.AF_INET, socket.AF_INET6}
            assert len({found.getsockname()[1] for found in each.sockets}) == 1
            for address in ("127.0.0.1", "::1"):
                socket.create_connection((address, each.port), 5).close()
    finally:
        for each in listeners:
            each.close()


def test_an_ipv4_address_is_listened_on_alone() -> None:
    families, port, url = _families("127.0.0.1")
    assert (families, url) == ({socket.AF_INET}, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(StartError, match=host):
        bind(EmulatorOptions(host=host, port=0), 1)


def test_a_port_in_use_is_named_and_leaves_no_socket_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port} cannot be used .* choose another with --port"):
            bind(EmulatorOptions(port=port), 2)
