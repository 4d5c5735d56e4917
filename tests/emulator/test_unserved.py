"""What a template has and the emulator does not serve is listed with what to use in its place, grouped and short."""

import json
import textwrap
from pathlib import Path

import pytest
from warmfront.cli.main import main
from warmfront.emulator.template import load_template
from warmfront.emulator.unserved import grouped, unserved

TEMPLATE = """\
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: "def handler(event, context): return 1"
      Handler: index.handler
      Runtime: python3.13
      Timeuot: 3
      FileSystemConfigs: [{Arn: a, LocalMountPath: /mnt/a}]
      Events:
        Put: {Type: S3, Properties: {Bucket: !Ref B, Events: s3:ObjectCreated:*}}
        Alexa: {Type: AlexaSkill}
  Chat: {Type: AWS::Serverless::WebSocketApi, Properties: {}}
  Cluster: {Type: AWS::EMR::Cluster, Properties: {}}
  Other: {Type: AWS::Glue::Job, Properties: {}}
  B: {Type: AWS::S3::Bucket}
  Role: {Type: AWS::IAM::Role, Properties: {}}
  Run: {Type: Custom::Seed, Properties: {}}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(textwrap.dedent(TEMPLATE))
    return path


def test_what_is_not_served_has_its_line_and_a_replacement(template: Path) -> None:
    found = {each.where: (each.line, each.what) for each in unserved(load_template(template))}
    assert {where: line for where, (line, _) in found.items()} == {
        "Chat (AWS::Serverless::WebSocketApi)": 13,
        "Cluster (AWS::EMR::Cluster)": 14,
        "Other (AWS::Glue::Job)": 15,
        "F.Timeuot": 8,
        "F.FileSystemConfigs": 9,
        "F.Put": 11,
        "F.Alexa": 12,
    }
    assert found["F.Timeuot"][1] == "SAM has no such property, so it is not read"
    assert found["F.Put"][1] == "S3 events are not sent"


def test_one_line_stands_for_everything_of_one_reason(template: Path) -> None:
    lines = grouped(unserved(load_template(template)))
    assert len(lines) == 6
    assert any(
        "Cluster (AWS::EMR::Cluster), Other (AWS::Glue::Job): it has no local counterpart" in line for line in lines
    )


def test_the_doctor_says_the_same_with_an_exit_status(template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template.write_text(TEMPLATE + "  Broken: {Type: AWS::Serverless::Function, Properties: {Timeout: soon}}\n")
    assert main(["doctor", "-t", str(template), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    listed = {finding["where"] for finding in findings if finding["rule"] == "not served locally"}
    assert {"F.Timeuot", "F.Put", "Cluster (AWS::EMR::Cluster)"} <= listed
    (mistake,) = [finding for finding in findings if finding["rule"] == "template"]
    assert (mistake["severity"], mistake["line"], mistake["where"]) == ("error", 19, "Broken")


def test_a_template_that_is_served_whole_has_no_list(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    kept = [line for line in TEMPLATE.splitlines() if not any(
        word in line for word in ("Timeuot", "FileSystem", "Events:", "Put:", "Alexa", "Chat", "Cluster", "Other")
    )]  # fmt: skip
    path.write_text("\n".join(kept))
    assert unserved(load_template(path)) == []
