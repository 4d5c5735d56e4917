"""What counts as a change of a function's code, told by the kernel."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.environments.reload import SourceWatch

LAST = "the-last-one"


def changes(tmp_path: Path, act: Callable[[Path], None]) -> set[str]:
    """Logical ids told of while `act` did something to the folder of `a` (which `also_a` shares) or the zip file of `zip`.

    A change of `other` comes after it, so that the test knows when everything before has been told.
    """
    (tmp_path / "a/deep/er").mkdir(parents=True)
    (tmp_path / "a/app.py").write_text("1")
    (tmp_path / "a/deep/er/x.py").write_text("1")
    (tmp_path / "other").mkdir()
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips/code.zip").write_text("1")
    sources = {
        "a": [tmp_path / "a"],
        "also_a": [tmp_path / "a"],
        "deep": [tmp_path / "a/deep"],
        "zip": [tmp_path / "zips/code.zip"],
        "other": [tmp_path / "other"],
    }

    async def main() -> set[str]:
        told: set[str] = set()
        over = asyncio.Event()

        def on_change(logical_ids: set[str], name: str) -> None:  # noqa: ARG001
            told.update(logical_ids)
            if "other" in logical_ids:
                over.set()

        watch = SourceWatch(sources, on_change, told.add)
        await watch.armed()
        act(tmp_path)
        (tmp_path / "other" / LAST).write_text("1")
        await asyncio.wait_for(over.wait(), 10)
        watch.close()
        return told - {"other"}

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda root: (root / "a/app.py").write_text("2"), {"a", "also_a"}),
        (lambda root: (root / "a/new.py").write_text("2"), {"a", "also_a"}),
        (lambda root: (root / "a/app.py").unlink(), {"a", "also_a"}),
        (lambda root: (root / "a/app.py").rename(root / "a/renamed.py"), {"a", "also_a"}),
        (lambda root: (root / "a/deep/er/x.py").write_text("2"), {"a", "also_a", "deep"}),
        (lambda root: (root / "zips/code.zip").write_text("2"), {"zip"}),
        (lambda root: (root / "zips/another.zip").write_text("2"), set()),
        (lambda root: (root / "a/.app.py.swp").write_text("2"), set()),
        (lambda root: (root / "a/app.py~").write_text("2"), set()),
        (lambda root: (root / "a/4913").write_text("2"), set()),
        (lambda root: (root / "a/app.cpython-313.pyc").write_text("2"), set()),
        (lambda root: (root / "a/__pycache__").mkdir(), set()),
        (lambda root: (root / "a/app.py").read_text(), set()),
    ],
    ids=["write", "new", "delete", "rename", "below", "zip", "another-zip", "swap", "backup", "probe", "pyc", "cache", "read"],
)  # fmt: skip
def test_a_change(tmp_path: Path, act: Callable[[Path], None], expected: set[str]) -> None:
    assert changes(tmp_path, act) == expected


def test_a_folder_made_later_is_watched_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    async def main() -> list[str]:
        told: list[str] = []
        changed = asyncio.Event()

        def on_change(logical_ids: set[str], name: str) -> None:
            assert logical_ids == {"a"}
            told.append(name)
            changed.set()

        watch = SourceWatch({"a": [tmp_path / "a"]}, on_change, told.append)
        await watch.armed()
        (tmp_path / "a/package").mkdir()
        await asyncio.wait_for(changed.wait(), 10)
        changed.clear()
        (tmp_path / "a/package/late.py").write_text("1")
        await asyncio.wait_for(changed.wait(), 10)
        watch.close()
        return told

    assert asyncio.run(main()) == ["package", "late.py"]


def test_many_changes_at_once_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    async def main() -> int:
        told: list[str] = []
        first = asyncio.Event()

        def on_change(logical_ids: set[str], name: str) -> None:  # noqa: ARG001
            told.append(name)
            first.set()

        watch = SourceWatch({"a": [tmp_path / "a"]}, on_change, told.append)
        await watch.armed()
        for number in range(50):
            (tmp_path / f"a/{number}.py").write_text("1")
        await asyncio.wait_for(first.wait(), 10)
        watch.close()
        return len(told)

    assert asyncio.run(main()) == 1
