"""schemathesis against the served shop: every operation, valid and invalid data, and links from one to the next.

What it is not to expect is in schemathesis.toml, each with its reason.
"""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.serving import ROOT, Served, serve

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
VARIANTS = ("pooled", "distributed")
SEEDS = (1, 2, 3)  # a variant's 2,000 cases in pieces, each a test of its own: `-k "distributed and seed2"`
CASES_OF_SEED = 700


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    state = tmp_path_factory.mktemp("state")
    with serve(ROOT / "template.yaml", "--state-dir", str(state)) as served:
        event = {"action": "seed", "databases": [*VARIANTS], "products": 500, "orders": 200}
        done = served.client(read_timeout=60).invoke(FunctionName="Migrate", Payload=json.dumps(event))
        assert "FunctionError" not in done
        yield served


def cases(served: Served, variant: str, folder: Path, examples: int, *options: str) -> int:
    """How many there were; none of them found anything."""
    with urllib.request.urlopen(f"{served.url}/{variant}/openapi.json", timeout=30) as answer:
        document = json.load(answer)
    # The emulator asks for tokens with --enforce-auth only, and then of an issuer that it can reach.
    for item in document["paths"].values():
        for operation in item.values():
            del operation["security"]
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run", "openapi.json"]
    command += ["--url", served.url, "--max-examples", str(examples), "--continue-on-failure", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    assert found, done.stdout[-2000:]
    assert found[1] == found[2]
    print(f"{variant}: {found[1]} cases, nothing found")
    return int(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hundred_cases_find_nothing(served: Served, variant: str, tmp_path: Path) -> None:
    quick = ("--phases", "coverage,fuzzing", "--generation-deterministic", "--no-shrink")
    assert cases(served, variant, tmp_path, 5, *quick) >= 100


@pytest.mark.stress
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed{seed}")
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_thousand_cases_in_three_pieces_find_nothing(
    served: Served, variant: str, seed: int, tmp_path: Path
) -> None:
    assert cases(served, variant, tmp_path, 130, "--workers", "2", "--seed", str(seed)) >= CASES_OF_SEED
