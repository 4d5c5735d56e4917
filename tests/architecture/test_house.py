"""The size of modules: none so long that it holds two subjects."""

from pathlib import Path

from tools.house import LINES_MAX, MEDIAN_MAX, Package, line_counts, packages, render


def test_no_module_is_longer_than_the_limit() -> None:
    long = {
        f"{package.folder}/{name}": count
        for package in packages()
        for name, count in package.modules.items()
        if count > LINES_MAX
    }
    assert long == {}, "split it by subject"


def test_the_median_module_is_short() -> None:
    counts = sorted(line_counts(packages()))
    assert counts[len(counts) // 2] <= MEDIAN_MAX


def test_a_long_module_is_found_and_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "long.py").write_text("x = 1\n" * (LINES_MAX + 1))
    (tmp_path / "a" / "short.py").write_text("x = 1\n")
    found = packages(tmp_path, ["a"])
    assert found == [Package(Path("a"), {"long.py": LINES_MAX + 1, "short.py": 1})]
    assert "long.py 401" in render(found)
    assert "1 over 400" in render(found)
