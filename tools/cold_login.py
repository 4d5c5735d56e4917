"""Measures the first request of `pooled` with its login in the URL, and beside it with a login by secret, as deployed.

`python -m tools.cold_login` starts a Postgres, and moto for Secrets Manager, and gives both to two functions that differ
in SHOP_DB_LOGIN alone. Exit status 1: the first request of the login by secret takes more than 1.5 times as long.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import boto3
from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres
from warmfront.bench.cold.cold_options import ColdOptions, Subject
from warmfront.bench.cold.cold_session import run_cold
from warmfront.bench.run.cold_stages import WHOLE
from warmfront.bench.statistics import percentiles
from warmfront.report.terminal import show
from warmfront.results import Result, write_result

from tools.kit_overhead import EVENT, prepared, seed

ROOT: Final = Path(__file__).parents[1]
RATIO_MAX: Final = 1.5
SECRET: Final = "shop/database"
REGION: Final = "us-east-1"
URL, BY_SECRET = "LoginInUrl", "LoginBySecret"
# The emulator gives a template with a DATABASE_URL databases of its own.
ENTRY: Final = """import os
os.environ["DATABASE_URL"] = os.environ.pop("POSTGRES_URL")
from functions.pooled.app import handler
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.cold_login", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=30, help="first requests of each (default: 30)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()
    with Postgres.start(os.environ) as postgres, Aws.start(region=REGION) as aws, tempfile.TemporaryDirectory() as name:
        seed(postgres)
        template = made(Path(name), postgres.url("pooled"), aws.endpoint_url)
        event = json.dumps(prepared(json.loads(EVENT.read_text()), 1)).encode()
        result = run_cold(
            ColdOptions(
                template=template,
                subjects=tuple(Subject(function, event, "GET /pooled/products/1") for function in (URL, BY_SECRET)),
                ways=("on-demand",),
                n=args.n,
                crowd=0,
                anatomy_runs=0,
                command=" ".join(["python -m tools.cold_login", *sys.argv[1:]]),
            )
        )
    if args.output:
        write_result(result, args.output)
    show(result)
    ratio = first_request_ms(result, BY_SECRET) / first_request_ms(result, URL)
    said = "within" if ratio <= RATIO_MAX else "over"
    print(f"\nfirst request, login by secret / login in the URL: {ratio:.2f} ({said} its limit of {RATIO_MAX})")
    return 0 if ratio <= RATIO_MAX else 1


def made(folder: Path, url: str, endpoint_url: str) -> Path:
    """A template with both functions; the secret is made in `endpoint_url`, as RDS writes it."""
    login, _, place = url.removeprefix("postgresql://").rpartition("@")
    user, _, password = login.partition(":")
    manager = boto3.client(
        "secretsmanager",
        region_name=REGION,
        endpoint_url=endpoint_url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    manager.create_secret(Name=SECRET, SecretString=json.dumps({"username": user, "password": password}))
    (folder / "entry.py").write_text(ENTRY)
    # A copy: a link into /tmp would lead nowhere in an environment, whose /tmp is its own.
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    common = {
        "POWERTOOLS_SERVICE_NAME": "pooled",
        "SHOP_CURSOR_KEY": "only-for-this-measurement",
        "SHOP_DB_SSL": "disable",
    }
    by_secret = {
        "SHOP_DB_LOGIN": "secret",
        "SHOP_DB_SECRET": SECRET,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint_url,
    }
    functions = {
        URL: common | {"POSTGRES_URL": url},
        BY_SECRET: common | by_secret | {"POSTGRES_URL": f"postgresql://{place}"},
    }
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {
            "SharedLayer": {
                "Type": "AWS::Serverless::LayerVersion",
                "Properties": {"ContentUri": str(ROOT / "shared"), "CompatibleRuntimes": ["python3.13"]},
                "Metadata": {
                    "BuildMethod": "python3.13",
                    "BuildProperties": {"ParentPackageMode": "explicit", "ParentPackages": "shared"},
                },
            }
        }
        | {
            name: {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "Runtime": "python3.13",
                    "Handler": "entry.handler",
                    "CodeUri": ".",
                    "MemorySize": 1024,
                    "Timeout": 10,
                    "Layers": [{"Ref": "SharedLayer"}],
                    "Environment": {"Variables": variables},
                },
            }
            for name, variables in functions.items()
        },
    }
    path = folder / "template.json"
    path.write_text(json.dumps(template))
    return path


def first_request_ms(result: Result, function: str) -> float:
    """Return the median in ms, from the start of the process to the first byte of the response."""
    (cold,) = (each for each in result.cold if each.variant == function)
    return percentiles.percentile([stages[WHOLE] for stages in cold.samples], 0.5)


if __name__ == "__main__":
    sys.exit(main())
