"""The client and its process: what happens when it is killed, cancelled, closed, cut short, or cannot be started."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fake_worker
from dlir.errors import OutputError, WorkerError
from dlir.worker.protocol import Done, Event, Failed, Notice, Progress
from DLIRRegistrationLib.worker.client import WorkerClient
from processes import is_gone, needs_proc, processes_with

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake worker is a shell script")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of everybody in this test; empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    return folder


@pytest.fixture
def make(temporary: Path, scripts: Path) -> Iterator[Callable[..., WorkerClient]]:
    """Makes clients of the fake worker; afterwards none of them may have left anything behind."""
    clients: list[WorkerClient] = []

    def make(**options: object) -> WorkerClient:
        python = fake_worker.script(scripts, **options)  # type: ignore[arg-type]
        clients.append(WorkerClient(python, {**fake_worker.ENVIRONMENT, "DLIR_TEST": str(temporary)}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
        assert client.state == "stopped"
    assert list(temporary.iterdir()) == []
    assert all(is_gone(pid) for pid in processes_with(f"DLIR_TEST={temporary}"))


@pytest.fixture
def client(make: Callable[..., WorkerClient]) -> WorkerClient:
    return make()


class Heard(list[Event]):
    """What a request was told, in order."""

    def of(self, kind: type) -> list[Event]:
        return [event for event in self if isinstance(event, kind)]

    @property
    def end(self) -> Done | Failed:
        last = self[-1]
        assert isinstance(last, (Done, Failed))
        return last


def ask(client: WorkerClient, what: str) -> tuple[str, Heard]:
    """Hand in a request of the fake worker; its id, and what it will have been told."""
    folder, heard = client.reserve(), Heard()
    return client.submit(fake_worker.asking(folder.name, folder, what), heard.append), heard


def until(client: WorkerClient, condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        client.poll()
        time.sleep(0.002)


def works(client: WorkerClient) -> bool:
    name, heard = ask(client, "nothing")
    return client.wait(name, 60) and isinstance(heard.end, Done)


# -- another version ----------------------------------------------------------------------------------


def test_what_only_a_newer_worker_says_is_logged_and_changes_nothing(
    make: Callable[..., WorkerClient], caplog: pytest.LogCaptureFixture
) -> None:
    newer = """
        import dlir.worker.protocol as protocol
        def newer(event, encode=protocol.encode_event):
            line = encode(event)
            unknown = b'{"event": "dance", "id": "1"}\\n'
            return unknown + line if isinstance(event, protocol.Done) else line
        protocol.encode_event = newer
    """
    client = make(before=newer)
    assert works(client)
    assert "line names no event of" in caplog.text
    assert works(client)


# -- requests -----------------------------------------------------------------------------------------


def test_a_request_and_its_files(client: WorkerClient) -> None:
    assert client.state == "stopped"
    client.start()
    assert client.state == "starting"
    name, heard = ask(client, "nothing")
    assert client.wait(name, 60)
    assert client.state == "ready"
    done = heard.end
    assert isinstance(done, Done)
    assert [type(event) for event in heard] == [Progress, Progress, Done]
    folder = Path(done.files["warped"]).parent
    assert folder.name == name
    client.release(name)
    assert not folder.exists()


def test_several_requests_wait_for_each_other(client: WorkerClient) -> None:
    order: list[str] = []
    for number in range(3):
        folder = client.reserve()
        client.submit(
            fake_worker.asking(folder.name, folder, f"nothing {number}"),
            lambda event: order.append(event.report["model"]) if isinstance(event, Done) else None,
        )
    until(client, lambda: client.state == "busy")
    until(client, lambda: len(order) == 3)
    assert order == [f"nothing {number}" for number in range(3)]
    assert client.state == "ready"


def test_a_failure_of_the_job_is_told_verbatim(client: WorkerClient) -> None:
    name, heard = ask(client, "refuse the image is empty; give another")
    client.wait(name, 60)
    assert heard.end == Failed(name, "error", "the image is empty; give another")
    assert works(client)


def test_a_callback_may_hand_in_the_next_request(client: WorkerClient) -> None:
    second: list[tuple[str, Heard]] = []

    def next_one(event: Event) -> None:
        if isinstance(event, Done):
            second.append(ask(client, "nothing"))
            client.poll()

    folder = client.reserve()
    client.submit(fake_worker.asking(folder.name, folder, "nothing"), next_one)
    until(client, lambda: second and second[0][1].of(Done))


def test_a_callback_that_fails_stops_nothing(client: WorkerClient) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("in the callback")

    folder = client.reserve()
    client.submit(fake_worker.asking(folder.name, folder, "nothing"), fail)
    raised = 0
    deadline = time.monotonic() + 60
    while client.state != "ready" and time.monotonic() < deadline:
        try:
            client.poll()
        except RuntimeError:
            raised += 1
    assert raised == 3
    assert works(client)


def test_waiting_may_take_too_long(client: WorkerClient) -> None:
    name, _ = ask(client, "sleep 600")
    assert not client.wait(name, 0.01)


def test_one_id_cannot_be_under_way_twice(client: WorkerClient) -> None:
    name, _ = ask(client, "sleep 600")
    with pytest.raises(ValueError, match="under way"):
        client.submit(fake_worker.asking(name, "", "nothing"), print)
    with pytest.raises(ValueError, match="under way"):
        client.release(name)


def test_a_reserved_folder_that_is_not_used(client: WorkerClient) -> None:
    folder = client.reserve()
    (folder / "image.npy").write_bytes(b"1")
    client.release(folder.name)
    client.release(folder.name)
    client.release("of somebody else")
    assert not folder.exists()


# -- time ---------------------------------------------------------------------------------------------


def test_the_callers_thread_is_never_held_up(make: Callable[..., WorkerClient]) -> None:
    """A slow start of the process, a job, a cancelled job: each call returns well before anyone notices.

    The best of three rounds counts, because a busy machine may hold up anything once.
    """
    rounds: list[dict[str, float]] = []
    client = make(before="import time; time.sleep(0.3)")

    def timed(what: str, action: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = action()
        rounds[-1][what] = max(rounds[-1].get(what, 0.0), time.perf_counter() - start)
        return result

    for _ in range(3):
        rounds.append({})
        timed("start", client.start)
        name, heard = timed("submit", lambda: ask(client, "spawn"))  # type: ignore[misc]
        until(client, lambda heard=heard: timed("poll", client.poll) or heard.of(Notice))
        timed("cancel", lambda name=name: client.cancel(name))
        timed("close", client.close)
    best = {what: min(found[what] for found in rounds) for what in rounds[0]}
    assert {what: took for what, took in best.items() if took > 0.1} == {}


# -- ends that nobody wished for ----------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("launcher", [False, True], ids=["directly", "behind a launcher"])
def test_killed_in_the_midst_of_work(make: Callable[..., WorkerClient], launcher: bool) -> None:
    client = make(launcher=launcher)
    name, heard = ask(client, "sleep 600")
    other, of_other = ask(client, "nothing")
    until(client, lambda: heard.of(Progress))
    killed = client.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(client, lambda: heard.of(Failed))
    failed = heard.end
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (name, "crash")
    for words in ("died", "was started again", "run the registration again"):
        assert words in failed.message
    assert client.wait(other, 60)  # it was not its fault
    assert isinstance(of_other.end, Done)
    assert client.pid != killed
    assert works(client)


@needs_proc
def test_the_launcher_alone_is_killed(make: Callable[..., WorkerClient]) -> None:
    client = make(launcher=True)
    _, heard = ask(client, "spawn")
    until(client, lambda: heard.of(Notice))
    worker, child = client.pid, int(heard.of(Notice)[0].message)  # type: ignore[union-attr]
    assert worker is not None
    launcher = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(launcher, signal.SIGKILL)
    until(client, lambda: heard.of(Failed))
    assert is_gone(worker)
    assert is_gone(child)
    assert works(client)


def test_a_job_that_ends_the_process(client: WorkerClient, caplog: pytest.LogCaptureFixture) -> None:
    name, heard = ask(client, "die 7")
    client.wait(name, 60)
    failed = heard.end
    assert isinstance(failed, Failed)
    assert "exit code 7" in failed.message
    assert "exit code 7" in caplog.text
    assert works(client)


def test_an_idle_process_that_is_killed_is_replaced_when_it_is_needed(client: WorkerClient) -> None:
    assert works(client)
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    until(client, lambda: client.state == "stopped")
    assert works(client)


def _killed_while_idle(client: WorkerClient) -> None:
    """The process is gone, and the client has not been asked since."""
    assert works(client)
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)


def test_an_idle_death_is_made_good_at_once_and_no_error(
    client: WorkerClient, caplog: pytest.LogCaptureFixture
) -> None:
    _killed_while_idle(client)
    former = client.pid
    client.start()  # as when the module is entered
    until(client, lambda: client.state == "ready")
    assert client.pid != former
    _killed_while_idle(client)
    name, heard = ask(client, "nothing")  # as by Apply
    assert client.wait(name, 60)
    assert isinstance(heard.end, Done)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "not started"])
def test_a_deleted_temporary_folder_is_made_again(client: WorkerClient, temporary: Path, idle: bool) -> None:
    if idle:
        assert works(client)
    else:
        client.release(client.reserve().name)
    shutil.rmtree(temporary)  # with all that is in it, as some tidying programs do
    assert works(client)


def test_a_temporary_folder_deleted_during_a_request(client: WorkerClient, temporary: Path) -> None:
    name, heard = ask(client, "sleep 0.3")
    until(client, lambda: heard)
    for folder in temporary.iterdir():
        shutil.rmtree(folder)
    assert client.wait(name, 60)
    assert isinstance(heard.end, Failed)
    client.release(name)
    assert works(client)


def test_a_temporary_folder_that_cannot_be_made_again(client: WorkerClient, temporary: Path) -> None:
    client.release(client.reserve().name)
    shutil.rmtree(temporary)
    temporary.touch()
    with pytest.raises(OutputError, match=r"cannot make a temporary folder in .*free some space"):
        client.reserve()
    temporary.unlink()
    assert works(client)


def test_a_request_handed_in_before_a_death_is_noticed(client: WorkerClient) -> None:
    assert works(client)
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    name, heard = ask(client, "nothing")
    assert client.wait(name, 60)
    if isinstance(heard.end, Failed):  # it had reached the process before that died
        assert heard.end.kind == "crash"
    assert works(client)


# -- a process that cannot start ----------------------------------------------------------------------


def test_a_process_that_dies_while_starting(
    make: Callable[..., WorkerClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = make(before="sys.exit('no such library: libtorch.so')")
    name, heard = ask(client, "nothing")
    client.wait(name, 60)
    failed = heard.end
    assert isinstance(failed, Failed)
    assert failed.kind == "crash"
    assert "cannot start" in failed.message
    assert "libtorch.so" in caplog.text
    assert client.state == "stopped"  # it is not tried over and over
    again, heard = ask(client, "nothing")  # but the user may
    client.wait(again, 60)
    assert isinstance(heard.end, Failed)


def test_a_missing_package_is_told_in_its_own_words(make: Callable[..., WorkerClient]) -> None:
    client = make(before=fake_worker.WITHOUT_TORCH)
    name, heard = ask(client, "nothing")
    client.wait(name, 60)
    failed = heard.end
    assert isinstance(failed, Failed)
    assert "'torch' cannot be imported" in failed.message


def test_an_interpreter_that_does_not_exist(temporary: Path) -> None:
    client = WorkerClient(str(temporary / "no-python"))
    with pytest.raises(WorkerError, match=r"no-python' cannot be started: No such file.*check"):
        client.start()
    assert client.state == "stopped"
    client.close()
    assert list(temporary.iterdir()) == []


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match=r"cannot make a temporary folder in .*missing'.*choose another"):
        WorkerClient().reserve()


# -- ends on purpose ----------------------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("launcher", [False, True], ids=["directly", "behind a launcher"])
def test_cancel_kills_the_process_and_its_children(make: Callable[..., WorkerClient], launcher: bool) -> None:
    client = make(launcher=launcher)
    name, heard = ask(client, "spawn")
    other, of_other = ask(client, "nothing")
    until(client, lambda: heard.of(Notice))
    child, worker = int(heard.of(Notice)[0].message), client.pid  # type: ignore[union-attr]
    assert worker is not None
    client.cancel(name)
    assert heard.end == Failed(name, "cancelled", "cancelled")
    assert client.state == "starting"
    assert is_gone(child)
    assert is_gone(worker)
    assert client.wait(other, 60)
    assert isinstance(of_other.end, Done)
    client.cancel(name)
    assert len(heard.of(Failed)) == 1


def test_cancel_of_a_request_that_waits_disturbs_nobody(client: WorkerClient) -> None:
    client.start()
    first, of_first = ask(client, "nothing")
    second, of_second = ask(client, "nothing")
    client.cancel(second)  # the process is not ready, so nothing has been sent
    assert of_second.end == Failed(second, "cancelled", "cancelled")
    assert client.wait(first, 60)
    assert isinstance(of_first.end, Done)
    assert len(of_second) == 1


def test_cancelled_files_go_too(client: WorkerClient) -> None:
    name, heard = ask(client, "sleep 600")
    until(client, lambda: heard.of(Progress))
    assert client._scratch is not None
    (client._scratch / name / ".dlir-half" / "new").mkdir(parents=True)  # as left by a process killed while it writes
    (client._scratch / name / ".dlir-half" / "new" / "warped.npy").write_bytes(b"of a patient")
    client.cancel(name)
    client.release(name)
    until(client, lambda: client.state == "ready")
    assert [path.name for path in client._scratch.iterdir()] == ["worker.log"]


@needs_proc
def test_close_leaves_nothing_and_may_be_repeated(client: WorkerClient, temporary: Path) -> None:
    name, heard = ask(client, "spawn")
    until(client, lambda: heard.of(Notice))
    child = int(heard.of(Notice)[0].message)  # type: ignore[union-attr]
    client.close()
    client.close()
    assert is_gone(child)
    assert list(temporary.iterdir()) == []
    assert not heard.of(Failed)
    client.poll()
    client.cancel(name)
    assert works(client)  # and it may be used again


@needs_proc
@pytest.mark.parametrize("end", ["", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], ids=["exit", "kill"])
def test_nothing_outlives_the_program(temporary: Path, scripts: Path, end: str) -> None:
    """A program that forgets to close its client, and one that is killed."""
    environment = {**fake_worker.ENVIRONMENT, "DLIR_TEST": str(temporary)}
    code = f"""
    import time
    from pathlib import Path
    from DLIRRegistrationLib.worker.client import WorkerClient
    from fake_worker import asking
    client = WorkerClient({fake_worker.script(scripts)!r}, {environment!r})
    folder, heard = client.reserve(), []
    (folder / "image.npy").write_bytes(b"of a patient")
    client.submit(asking(folder.name, folder, "sleep 600"), heard.append)
    while not heard:
        client.poll()
        time.sleep(0.01)
    print(client.pid, flush=True)
    {end}
    """
    program = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **fake_worker.ENVIRONMENT, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert is_gone(int(program.stdout))
    deadline = time.monotonic() + 60
    while list(temporary.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(temporary.iterdir()) == []
    assert processes_with(f"DLIR_TEST={temporary}") == []
