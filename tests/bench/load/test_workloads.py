"""Workload files: valid ones are read, and errors name the file and the key."""

from pathlib import Path

import pytest
from warmfront.bench.load.workloads import SHOP_WORKLOADS, Draw, WorkloadError, load_workloads

VARIANT = '[[variant]]\nname = "one"\nprefix = "/one"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_our_workloads_are_the_ones_results_name() -> None:
    file = load_workloads(SHOP_WORKLOADS)
    assert [workload.name for workload in file.workloads] == [
        "product",
        "products",
        "order",
        "place_order",
        "update",
        "mix",
    ]
    assert file.variants[0].name == "naive"


def test_our_setup_names_the_variants_that_are_compared_and_nothing_else_does() -> None:
    file = load_workloads(SHOP_WORKLOADS)
    (setup,) = file.setup_for(("naive", "pooled", "distributed"))
    assert setup.event["databases"] == ["naive", "pooled", "distributed"]
    assert setup.event["action"] == "seed"
    assert "naive" not in str(file.setup[0].event)


def test_every_workload_of_ours_that_writes_starts_fresh() -> None:
    for workload in load_workloads(SHOP_WORKLOADS).workloads:
        writes = any(step.method != "GET" for request in workload.requests for step in request.steps)
        assert workload.fresh == writes, workload.name


def test_a_file_of_plain_requests_is_one_workload_named_after_it(tmp_path: Path) -> None:
    file = load_workloads(write(tmp_path, VARIANT + '[[request]]\npath = "/x"\n[[request]]\npath = "/y"\nweight = 3\n'))
    (workload,) = file.workloads
    assert workload.name == "mine"
    assert workload.counted
    assert [request.weight for request in workload.requests] == [1.0, 3.0]


def test_a_mix_weighs_other_workloads_whatever_their_own_weights(tmp_path: Path) -> None:
    text = (
        VARIANT
        + '[[workload]]\nname = "a"\n[[workload.request]]\npath = "/1"\nweight = 5\n'
        + '[[workload.request]]\npath = "/2"\nweight = 15\n'
        + '[[workload]]\nname = "b"\n[[workload.request]]\npath = "/3"\n'
        + '[[workload]]\nname = "both"\nmix = { a = 80, b = 20 }\n'
    )
    mix = load_workloads(write(tmp_path, text)).workload("both")
    assert [request.weight for request in mix.requests] == [20.0, 60.0, 20.0]


def test_json_braces_of_a_body_are_not_placeholders(tmp_path: Path) -> None:
    text = (
        VARIANT + """[[request]]\npath = "/x"\nmethod = "POST"\nbody = '{"a": {"b": {n:1..3}}, "c": {n}, "d": {}}'\n"""
    )
    step = load_workloads(write(tmp_path, text)).workloads[0].requests[0].steps[0]
    assert step.body is not None
    assert step.body.names == ("n", "n")
    assert step.body.render({"n": "2"}) == '{"a": {"b": 2}, "c": 2, "d": {}}'


def test_a_range_is_drawn_once_and_repeated_by_name(tmp_path: Path) -> None:
    request = (
        load_workloads(write(tmp_path, VARIANT + '[[request]]\npath = "/{id:1..9}/{id}"\n')).workloads[0].requests[0]
    )
    assert request.draws == (Draw("id", 1, 9),)


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("", "variant", "missing required field"),
        ('[[variant]]\nname = 3\n[[request]]\npath = "/x"\n', "variant[0].name|variant[...].name", "Expected `str`"),
        (VARIANT + '[[request]]\npath = "/x"\nwieght = 2\n', "request", "wieght"),
        (VARIANT + '[[request]]\npath = "x"\n', "request[0].path", "must start with '/'"),
        (VARIANT + '[[request]]\npath = "/{nope}"\n', "request[0].path", "unknown {nope}"),
        (VARIANT + '[[request]]\npath = "/{id:9..1}"\n', "request[0].path", "is empty"),
        (VARIANT + '[[request]]\npath = "/{a:1..2}/{a:1..3}"\n', "request[0].path", "another range"),
        (VARIANT + '[[request]]\npath = "/x"\nexpect = [20]\n', "request[0].expect", "HTTP status"),
        (VARIANT + '[[request]]\npath = "/x"\nweight = 0\n', "request[0].weight", "above 0"),
        (VARIANT + '[[request]]\npath = "/{page_depth:1..9}"\n', "walk", "needs a [walk] section"),
        (VARIANT, "workload", "nothing to send"),
        (VARIANT + '[[workload]]\nname = "a"\n', "workload[0]", "either requests or a mix"),
        (VARIANT + '[[workload]]\nname = "a"\nmix = { b = 1 }\n', "workload[0].mix.b", "there is no workload 'b'"),
        (VARIANT + VARIANT + '[[request]]\npath = "/x"\n', "variant", "the name 'one' is used twice"),
        ('[[variant]]\nname = "v"\nprefix = "v/"\n[[request]]\npath = "/x"\n', "variant[0].prefix", "'v/'"),
        (
            VARIANT + '[[request]]\npath = "/x"\n[request.capture]\ne = { cookie = "x" }\n',
            "request[0].capture.e",
            'header = "ETag"',
        ),
        (
            VARIANT
            + '[walk]\nstart = "/x"\nnext = "/x"\ncursor = "c"\nrows = 9\n[[request]]\npath = "/{page_depth:1..9}"\n',
            "walk.next",
            "{cursor}",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_key(tmp_path: Path, text: str, key: str, hint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(WorkloadError) as error:
        load_workloads(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert any(each in message for each in key.split("|"))
    assert hint in message


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"none\.toml cannot be read: No such file"):
        load_workloads(tmp_path / "none.toml")


def test_a_captured_value_is_known_to_later_steps_only(tmp_path: Path) -> None:
    text = (
        VARIANT
        + '[[request]]\npath = "/{tag}"\n[[request.before]]\npath = "/x"\ncapture = { tag = { header = "ETag" } }\n'
    )
    assert len(load_workloads(write(tmp_path, text)).workloads[0].requests[0].steps) == 2
    with pytest.raises(WorkloadError, match=r"unknown \{tag\}"):
        load_workloads(write(tmp_path, text.replace('"/x"', '"/{tag}"')))
