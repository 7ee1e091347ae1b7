"""The process itself: what goes over its streams, and that it is gone when nobody needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_worker
from dlir.registration.request import ArrayFile
from dlir.worker.protocol import (
    Bye,
    Done,
    Event,
    Failed,
    Finish,
    Progress,
    Provisional,
    Ready,
    decode_event,
    encode_request,
)
from processes import is_gone, needs_proc

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake worker is a shell script")


class Talk:
    """A conversation with a worker process."""

    def __init__(self, folder: Path, *arguments: str, before: str = "") -> None:
        self.folder = folder
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [fake_worker.script(folder, before=before), "-m", "dlir.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **fake_worker.ENVIRONMENT},
            )

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def ask(self, what: str, name: str = "1", **more: object) -> None:
        self.write(encode_request(fake_worker.asking(name, self.folder, what, **more)))

    def hear(self) -> Event:
        assert self.process.stdout is not None
        return decode_event(self.process.stdout.readline())

    def until(self, *kinds: type) -> list[Event]:
        heard = [self.hear()]
        while not isinstance(heard[-1], kinds):
            heard.append(self.hear())
        return heard


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    talk = Talk(tmp_path)
    yield talk
    talk.process.kill()
    talk.process.communicate(timeout=60)


# -- answers ------------------------------------------------------------------------------------------


def test_a_request_from_the_first_event_to_the_last(talk: Talk) -> None:
    assert talk.hear() == Ready({"dlir": "fake"}, talk.process.pid)
    talk.ask("nothing", "first")
    talk.ask("nothing", "second")
    for name in ("first", "second"):
        events = talk.until(Done)
        assert events[:-1] == [Progress(name, "reading", 0.0), Progress(name, "writing", 1.0)]
        done = events[-1]
        assert isinstance(done, Done)
        assert (done.id, done.report) == (name, {"model": "nothing"})
    talk.close_input()
    assert talk.hear() == Bye()
    assert talk.process.wait(60) == 0


def test_the_verdict_so_far_is_told_before_the_end(talk: Talk) -> None:
    talk.ask("offer Look at it.")
    offered = [event for event in talk.until(Done) if isinstance(event, Provisional)]
    inputs = {"similarity_after": 0.9, "covered": None}
    assert offered == [Provisional("1", {"level": "check", "reason": "Look at it.", "inputs": inputs})]


def test_a_refinement_tells_its_objective_and_is_ended_by_finish(talk: Talk) -> None:
    talk.ask("refine")
    talk.write(encode_request(Finish("2")))  # of no request under way
    told = [event for event in (talk.hear() for _ in range(6)) if isinstance(event, Progress)]
    assert (told[1].stage, told[1].value) == (None, None)
    assert {(event.stage, event.value) for event in told[2:]} == {("stage 1 of 2", 0.12346)}
    talk.write(encode_request(Finish("1")))
    *_, last, done = talk.until(Done)
    assert last == Progress("1", "writing", 1.0)
    assert isinstance(done, Done)


def test_a_finish_that_comes_too_late_leaves_the_next_request_alone(talk: Talk) -> None:
    talk.ask("nothing", "first")
    talk.until(Done)
    talk.write(encode_request(Finish("first")))
    talk.ask("refine", "second")
    while talk.hear() != Progress("second", "refining, stage 1 of 2, similarity 0.1235", 0.3, "stage 1 of 2", 0.12346):
        pass
    assert isinstance(talk.hear(), Progress)
    talk.write(encode_request(Finish("second")))
    assert isinstance(talk.until(Done)[-1], Done)


def test_requests_may_come_before_it_is_ready(talk: Talk) -> None:
    talk.ask("nothing")
    assert isinstance(talk.hear(), Ready)
    assert isinstance(talk.until(Done)[-1], Done)


def test_what_others_print_stays_out_of_the_answers(talk: Talk) -> None:
    talk.ask("print")
    events = talk.until(Done)
    assert [type(event) for event in events] == [Ready, Progress, Progress, Done]
    talk.ask("nothing", "2")  # nobody read the worker's own input either
    assert isinstance(talk.until(Done)[-1], Done)
    log = talk.log.read_text()
    for words in ("from Python", "from a library", "from a child"):
        assert words in log
    assert "ate" not in log


@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        (b"nonsense\n", None, ["JSON", "nonsense"]),
        (b"[1, 2]\n", None, ["request", "register"]),
        (b'{"request": "dance", "id": "a"}\n', "a", ["register"]),
        (b'{"request": "register", "id": "b", "flavour": 1}\n', "b", ["unknown", "flavour"]),
        (b'{"request": "register", "id": "c"}\n', "c", ["lacks", "registration"]),
        (b"\xff\xfe\x00\n", None, ["JSON"]),
        (b"[" * 100_000 + b"\n", None, ["JSON"]),
    ],
    ids=["no JSON", "no object", "no request", "unknown key", "missing keys", "no text", "deep"],
)
def test_a_malformed_request_is_refused_and_the_next_one_done(
    talk: Talk, line: bytes, name: str | None, words: list[str]
) -> None:
    talk.write(line)
    failed = talk.until(Failed)[-1]
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (name, "error")
    assert "\n" not in failed.message
    for word in words:
        assert word in failed.message
    talk.ask("nothing")
    assert isinstance(talk.until(Done)[-1], Done)


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("refuse the image is empty; give another", "error", "the image is empty; give another"),
        ("fault a bug", "crash", "RuntimeError: a bug"),
        ("memory", "error", "memory does not suffice"),
        ("nan", "crash", "JSON"),
    ],
)
def test_what_fails_says_so_and_the_worker_goes_on(talk: Talk, what: str, kind: str, words: str) -> None:
    talk.ask(what, "1")
    failed = talk.until(Failed)[-1]
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == ("1", kind)
    assert words in failed.message
    talk.ask("nothing", "2")
    assert talk.until(Done)[-1].id == "2"  # type: ignore[union-attr]


def test_a_fault_leaves_its_traceback_in_the_log(talk: Talk) -> None:
    talk.ask("fault a bug")
    talk.until(Failed)
    assert "Traceback" in talk.log.read_text()


def test_a_request_of_many_megabytes(talk: Talk) -> None:
    names = tuple(ArrayFile(f"{number}.npy", {"shape": [1, 2, 3]}, "x" * 2000) for number in range(2000))
    talk.ask("sleep 0.3", "1", moving_labels=names)
    talk.ask("nothing", "2", moving_labels=names)  # while it is at work: the pipe alone would not hold this
    assert [event.id for event in talk.until(Done) + talk.until(Done) if isinstance(event, Done)] == ["1", "2"]


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    talk = Talk(tmp_path, before=fake_worker.WITHOUT_TORCH)
    failed = talk.hear()
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (None, "error")
    assert "'torch'" in failed.message
    assert "install" in failed.message
    assert talk.process.wait(60) == 1
    talk.process.communicate()


def test_help_tells_what_it_is_for(tmp_path: Path) -> None:
    talk = Talk(tmp_path, "--help")
    printed, _ = talk.process.communicate(timeout=60)
    assert b"stdin" in printed


# -- the end ------------------------------------------------------------------------------------------


def test_end_of_input_ends_it_in_the_midst_of_work_and_removes_the_scratch_folder(tmp_path: Path) -> None:
    scratch = tmp_path / "dlir-worker-1"
    (scratch / "request").mkdir(parents=True)
    (scratch / "request" / "image.npy").write_bytes(b"of a patient")
    talk = Talk(tmp_path, "--scratch", str(scratch))
    talk.ask("sleep 600")
    talk.until(Progress)
    talk.process.communicate(timeout=60)
    assert talk.process.returncode == 0
    assert not scratch.exists()


def test_a_folder_of_another_name_is_never_removed(tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    talk = Talk(tmp_path, "--scratch", str(mine))
    talk.hear()
    talk.process.communicate(timeout=60)
    assert mine.is_dir()


@needs_proc
def test_an_orphan_ends_although_its_input_stays_open(tmp_path: Path) -> None:
    """Its parent is killed, and somebody else still holds the other end of its input."""
    reading, writing = os.pipe()
    parent = subprocess.Popen(
        [fake_worker.script(tmp_path, launcher=True), "-m", "dlir.worker"],
        stdin=reading,
        stdout=subprocess.PIPE,
        env={**os.environ, **fake_worker.ENVIRONMENT},
    )
    assert parent.stdout is not None
    ready = decode_event(parent.stdout.readline())
    assert isinstance(ready, Ready)
    assert ready.pid != parent.pid
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    try:
        assert is_gone(ready.pid)
    finally:
        for end in (reading, writing):
            os.close(end)
        parent.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(ready.pid, signal.SIGKILL)


def test_nobody_listens_any_more(talk: Talk) -> None:
    talk.hear()
    assert talk.process.stdout is not None
    talk.process.stdout.close()
    talk.ask("nothing")
    assert talk.process.wait(60) == 0
