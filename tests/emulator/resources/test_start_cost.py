"""A template without resources pays nothing for them: neither imports nor a process."""

import subprocess
import sys
from pathlib import Path

from tests.emulator.serving import serve

HEAVY = {"samtranslator", "moto", "boto3", "botocore", "asyncpg"}


def test_serving_imports_neither_moto_nor_the_translator_nor_an_sdk() -> None:
    code = f"import sys, warmfront.cli.serve; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_template_without_resources_starts_no_local_aws(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return 1\n")
    (tmp_path / "template.yaml").write_text(
        """Transform: AWS::Serverless-2016-10-31
Resources:
  Hello: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, CodeUri: ., Handler: app.handler}}
"""
    )
    with serve(tmp_path / "template.yaml") as served:
        assert "aws" not in served.get("/_warmfront/state")["backing"]
        assert not [line for line in served.lines if line.startswith("resources")]
