import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from warmfront import provenance, results
from warmfront.results import Block, Result, ResultError, Validity, decode_result, read_result, write_result


def small_result(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "kind": "bench",
        "created": provenance.now_iso(),
        "command": "warmfront bench --quick",
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "blocks": (
            Block(
                workload="product",
                variant="naive",
                index=0,
                order=1,
                started_s=0.5,
                duration_s=1.0,
                requests=3,
                errors=1,
                latency_us=(1200, 900, 30_000_000),
                cpu_s={"emulator": 0.1},
            ),
        ),
    }
    return Result(**(values | changes))


def test_a_written_result_reads_back_equal(tmp_path: Path) -> None:
    result = small_result()
    write_result(result, tmp_path / "deep" / "result.json")
    assert read_result(tmp_path / "deep" / "result.json") == result
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.json"]


def test_figures_of_numpy_are_written_as_plain_numbers(tmp_path: Path) -> None:
    machine = {"load": np.float64(1.5), "spins": np.array([1, 2])}
    write_result(small_result(machine=machine), tmp_path / "a.json")
    assert read_result(tmp_path / "a.json").machine == {"load": 1.5, "spins": [1, 2]}
    with pytest.raises(TypeError, match="cannot hold a object"):
        write_result(small_result(machine={"thing": object()}), tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_the_schema_file_says_what_the_code_says() -> None:
    file = Path(results.__file__).with_name("results.schema.json")
    assert json.loads(file.read_text()) == results.json_schema(), "write it anew: python -m warmfront.results"


def test_a_written_result_satisfies_the_schema() -> None:
    document = json.loads(msgspec.json.encode(small_result()))
    jsonschema.Draft202012Validator(results.json_schema()).validate(document)
    document["blocks"][0]["requests"] = "three"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(results.json_schema()).validate(document)


def test_a_newer_result_is_called_newer_and_not_broken() -> None:
    document = {"schema": "warmfront/result/2", "blocks": "another shape"}
    with pytest.raises(ResultError, match=r"a\.json has schema 'warmfront/result/2', this Warmfront reads"):
        decode_result(json.dumps(document).encode(), name="a.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"kind": "bench"}', b"\xff\xfe"])
def test_what_is_no_result_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ResultError, match=r"a\.json is not a result of Warmfront"):
        decode_result(data, name="a.json")


def test_a_wrong_value_is_named_by_its_place() -> None:
    document = json.loads(msgspec.json.encode(small_result()))
    document["blocks"][0]["latency_us"][1] = "fast"
    with pytest.raises(ResultError, match=r"\$\.blocks\[0\]\.latency_us\[1\]|\$\.blocks\[\.\.\.\]\.latency_us"):
        decode_result(json.dumps(document).encode())


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"gone\.json cannot be read: No such file.*bench --output"):
        read_result(tmp_path / "gone.json")


def test_parts_and_fields_a_reader_does_not_know_do_not_stop_it() -> None:
    document = json.loads(msgspec.json.encode(small_result()))
    document["weather"] = "fine"
    del document["comparisons"]
    result = decode_result(json.dumps(document).encode())
    assert result.comparisons == ()
    assert result.validity == Validity()


def test_the_machine_is_described_without_its_name() -> None:
    machine = provenance.machine()
    assert machine["cores_usable"] >= 1
    assert machine["memory_bytes"] > 2**20
    assert machine["cpu"]
    assert not {"host", "hostname", "user", "node"} & set(machine)


def test_a_package_that_is_not_there_has_no_version() -> None:
    found = provenance.versions(["numpy", "no-such-package-at-all"])
    assert found["numpy"]
    assert found["no-such-package-at-all"] is None
