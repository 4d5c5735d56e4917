"""What is said of a template that changes while it is served."""

import pytest
from warmfront.emulator.hot_reload import describe_change

SERVED = """
Globals: {Function: {Timeout: 3}}
Resources:
  Orders: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, Handler: app.handler}}
  Queue: {Type: AWS::SQS::Queue}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Timeout: 3", "Timeout: 4"), "take section Globals"),
        (("app.handler", "app.other"), "take Orders"),
        (("  Queue: {Type: AWS::SQS::Queue}\n", ""), "take Queue"),
        (("Resources:\n", "Resources:\n  More: {Type: AWS::SQS::Queue}\n"), "take More"),
        (("Timeout: 3", "Timeout: ["), "not valid YAML"),
    ],
)
def test_what_needs_a_new_start_is_named(change: tuple[str, str], said: str) -> None:
    assert said in str(describe_change(SERVED, SERVED.replace(*change), "template.yaml"))


def test_a_comment_needs_none() -> None:
    assert describe_change(SERVED, f"# a comment\n\n{SERVED}", "template.yaml") is None
