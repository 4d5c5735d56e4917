"""Copies of a template with other variables: those are set, and nothing else has changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from warmfront.lab.experiments import ExperimentError
from warmfront.lab.overlay import STALE_S, overlaid, with_variables

TEMPLATE = """
Resources:
  Api: {Type: AWS::Serverless::HttpApi}
  Bare:
    Type: AWS::Serverless::Function
    Properties: {Handler: a.b}
  Rich:
    Type: AWS::Serverless::Function
    Properties:
      Handler: !Sub ${Where}.handler
      Environment:
        Variables:
          URL: !If [IsLocal, !Ref A, "0123"]
          SHOP_POOL_MAX: "1"
"""


class Tagged(yaml.SafeLoader):
    """Loads every tag as its name and value, so that two documents can be compared."""


def _tagged(loader: Tagged, suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return (suffix, node.value)
    assert isinstance(node, yaml.SequenceNode)
    return (suffix, loader.construct_sequence(node, deep=True))


Tagged.add_multi_constructor("!", _tagged)


def read(text: str) -> dict[str, dict[str, dict[str, dict[str, dict[str, dict[str, object]]]]]]:
    loaded: dict[str, dict[str, dict[str, dict[str, dict[str, dict[str, object]]]]]] = yaml.load(text, Loader=Tagged)
    return loaded


def test_variables_are_set_replaced_and_added_and_intrinsic_functions_stay() -> None:
    changed = read(with_variables(TEMPLATE, {"Rich": {"SHOP_POOL_MAX": "7", "NEW": "on"}, "Bare": {"X": "1"}}))
    expected = read(TEMPLATE)
    expected["Resources"]["Rich"]["Properties"]["Environment"]["Variables"] |= {"SHOP_POOL_MAX": "7", "NEW": "on"}
    expected["Resources"]["Bare"]["Properties"]["Environment"] = {"Variables": {"X": "1"}}
    assert changed == expected


def test_a_value_that_looks_like_another_type_stays_text() -> None:
    changed = read(with_variables(TEMPLATE, {"Bare": {"X": "0123", "Y": "true"}}))
    assert changed["Resources"]["Bare"]["Properties"]["Environment"]["Variables"] == {"X": "0123", "Y": "true"}


def test_a_function_that_is_not_there_is_named() -> None:
    with pytest.raises(ExperimentError, match="has no function 'Poold'"):
        with_variables(TEMPLATE, {"Poold": {"X": "1"}})


def test_the_copy_stands_beside_the_template_and_goes_with_the_experiment(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE)
    with overlaid(template, {"Bare": {"X": "1"}}) as copy:
        assert copy.parent == tmp_path
        assert copy != template
        assert "X" in copy.read_text()
    assert list(tmp_path.iterdir()) == [template]
    assert template.read_text() == TEMPLATE


def test_without_variables_the_template_itself_is_served(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    with overlaid(template, {"Bare": {}}) as served:
        assert served == template


def test_a_handler_is_replaced_and_remembered() -> None:
    found = yaml.load(with_variables(TEMPLATE, {"Bare": {"A": "b"}}, {"Bare": "lab.handler"}), Loader=Tagged)
    properties = found["Resources"]["Bare"]["Properties"]
    assert properties["Handler"] == "lab.handler"
    assert properties["Environment"]["Variables"] == {"A": "b", "LAB_HANDLER": "a.b"}


def test_two_copies_at_the_same_time_have_names_of_their_own(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE)
    with overlaid(template, {"Bare": {"A": "1"}}) as one, overlaid(template, {"Bare": {"A": "2"}}) as other:
        assert one != other
        assert one.read_text() != other.read_text()
    assert list(tmp_path.iterdir()) == [template]


def test_copies_of_the_killed_are_removed_and_nobody_elses(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    of_the_gone = tmp_path / f".template-lab-{gone.pid}-a1b2c3.yaml"
    of_another = tmp_path / f".template-lab-{os.getppid()}-a1b2c3.yaml"
    old = tmp_path / f".template-lab-{os.getppid()}-d4e5f6.yaml"
    strangers = [tmp_path / name for name in (".template-lab-notes.yaml", f".other-lab-{gone.pid}-a1b2c3.yaml")]
    for path in (of_the_gone, of_another, old, *strangers):
        path.write_text(TEMPLATE)
    long_ago_s = old.stat().st_mtime - STALE_S - 1
    os.utime(old, (long_ago_s, long_ago_s))
    with overlaid(template, {"Rich": {"A": "1"}}) as copy:
        assert sorted(tmp_path.iterdir()) == sorted([template, copy, of_another, *strangers])
    assert sorted(tmp_path.iterdir()) == sorted([template, of_another, *strangers])
