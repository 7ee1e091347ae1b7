"""A batch does every row, whatever becomes of the others, and leaves alone what is done."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fake_rows
from cli_runs import SOURCE, snapshot
from disks import small_disk
from dlir.cohort.batch import Batch, Workers
from dlir.cohort.folder import Shard, written_by_batch
from dlir.cohort.rows import Options
from dlir.errors import DiskFullError, OutputError
from fake_rows import fake_batch, write_table
from processes import is_gone, needs_proc, processes_with

ONE, TWO = Workers(1), Workers(2)


def summary(output: Path, name: str = "summary.csv") -> list[dict[str, str]]:
    with (output / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def states(output: Path) -> list[str]:
    return [row["state"] for row in summary(output)]


def results(output: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of every pair, with its content and when it was written."""
    files = (path for path in output.glob("m-*/**/*") if path.is_file())
    return {str(path.relative_to(output)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def run(batch: Batch, workers: Workers = ONE) -> list[str]:
    told: list[str] = []
    batch.run(workers, tell=told.append)
    return told


def check_complete(output: Path, contents: list[bytes]) -> None:
    """Every row has its result, whole, once, and nothing else is there."""
    assert states(output) == ["done"] * len(contents)
    names = [f"m-to-f{number}" for number in range(len(contents))]
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == sorted([".dlir-batch", *names])
    for name, content in zip(names, contents, strict=True):
        files = {path.name: path.read_bytes() for path in (output / name).iterdir()}
        assert files.keys() == set(fake_rows.OUTPUTS.values())
        assert files["warped.nrrd"] == files["transform.h5"] == content * 1000


# -- rows that fail -----------------------------------------------------------------------------------


def test_what_fails_stops_no_other_row(tmp_path: Path) -> None:
    contents = [b"a", b"refused", b"killed", b"b", b"bug", b"c"]
    table, output = write_table(tmp_path, contents), tmp_path / "out"
    (tmp_path / "f5.nrrd").unlink()
    batch = fake_batch(table, output)
    told = run(batch, TWO)
    assert states(output) == ["done", "error", "error", "done", "error", "error"]
    errors = [row["error"] for row in summary(output)]
    assert errors[1] == "fixed image 'f1.nrrd' is refused; give another"
    assert errors[2].startswith("the process that registered it ended (SIGKILL, as where memory runs out)")
    assert errors[4] == "unexpected ValueError: nobody thought of this"
    assert "fixed image 'f5.nrrd' does not exist" in errors[5]
    assert len(told) == 4
    assert sorted(path.name for path in output.iterdir()) == [
        ".dlir-batch", "m-to-f0", "m-to-f3", "summary.csv", "summary.html",
    ]  # fmt: skip
    # Again, once they are mended: only these.
    before = results(output)
    for number in (1, 2, 4, 5):
        (tmp_path / f"f{number}.nrrd").write_bytes(b"x")
    assert run(fake_batch(table, output)) == []
    after = results(output)
    assert {name: after[name] for name in before} == before
    check_complete(output, [b"a", b"x", b"x", b"b", b"x", b"x"])


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    table, output = write_table(tmp_path, [b"a", b"full", b"b", b"full"]), tmp_path / "out"
    batch = fake_batch(table, output)
    with pytest.raises(DiskFullError, match="the disk is full"):
        run(batch)
    assert states(output) == ["done", "waiting", "waiting", "waiting"]
    assert not (output / "m-to-f1").exists()


def test_a_disk_that_is_full_from_the_start_keeps_what_was_there(tmp_path: Path) -> None:
    table, output = write_table(tmp_path, [b"a", b"b"]), tmp_path / "out"
    run(fake_batch(table, output))
    before = snapshot(output)
    with small_disk(100), pytest.raises(DiskFullError):
        run(fake_batch(table, output))
    assert snapshot(output) == before


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    table, output = write_table(tmp_path, [b"a"]), tmp_path / "out"
    batch = fake_batch(table, output)
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OutputError, match="choose another output folder"):
        run(batch)
    assert not output.exists()
    assert not batch.lines


# -- again --------------------------------------------------------------------------------------------


def test_what_is_done_stays_and_nothing_is_started_for_it(tmp_path: Path) -> None:
    table, output = write_table(tmp_path, [b"a", b"b"]), tmp_path / "out"
    run(fake_batch(table, output))
    before = results(output)
    again = fake_batch(table, output)
    again.enter = None  # would need torch
    assert run(again) == []
    assert results(output) == before
    # A copy of a file is the same file.
    (tmp_path / "f0.nrrd").write_bytes(b"a")
    os.utime(tmp_path / "f0.nrrd", ns=(1, 1))
    assert run(again) == []
    assert results(output) == before


@pytest.mark.parametrize("what", ["options", "input", "size", "lost", "report", "table"])
def test_what_no_longer_stands_is_done_again(tmp_path: Path, what: str) -> None:
    table, output = write_table(tmp_path, [b"a", b"b"]), tmp_path / "out"
    run(fake_batch(table, output))
    before, folder, options = results(output), output / "m-to-f0", Options(model="none")
    told = "row 1, m-to-f0: done again, because another than before: {}"
    match what:
        case "options":
            options, expected = Options(model="none", refine="5it"), [told.format("--refine")]
            expected.append(expected[0].replace("row 1, m-to-f0", "row 2, m-to-f1"))
        case "input":
            (tmp_path / "f0.nrrd").write_bytes(b"A")
            expected = [told.format("fixed image")]
        case "table":
            (tmp_path / "mask.nrrd").write_bytes(b"mask")
            table.write_text("fixed,moving,fixed_mask\nf0.nrrd,m.nrrd,mask.nrrd\nf1.nrrd,m.nrrd,\n")
            expected = [told.format("fixed mask")]
        case "size":
            (folder / "warped.nrrd").write_bytes(b"cut")
            expected = []
        case "lost":
            (folder / "transform.h5").unlink()
            expected = []
        case _:
            report = (folder / "report.json").read_text().replace('"similarity"', '"likeness"')
            (folder / "report.json").write_text(report)
            expected = [told.format("its report")]
    assert run(fake_batch(table, output, options)) == expected
    after = results(output)
    again = {name.split(os.sep)[0] for name in after if after[name] != before.get(name)}
    assert again == ({"m-to-f0", "m-to-f1"} if what == "options" else {"m-to-f0"})
    check_complete(output, [(tmp_path / "f0.nrrd").read_bytes(), b"b"])


def test_a_report_that_cannot_be_read_is_no_result_and_is_written_again(tmp_path: Path) -> None:
    """As a disk leaves one behind where the power failed; who wrote the files beside it is known all the same."""
    reports = [b"", b'{"report_version": 1, "fi', b"\0" * 400, b"[]", None]
    contents = [b"%d" % number for number in range(len(reports) + 1)]
    table, output = write_table(tmp_path, contents), tmp_path / "out"
    run(fake_batch(table, output))

    def damage(number: int, report: bytes | None) -> None:
        (output / f"m-to-f{number}" / "report.json").unlink()
        if report is not None:
            (output / f"m-to-f{number}" / "report.json").write_bytes(report)

    before = results(output)
    for number, report in enumerate(reports):
        damage(number, report)
    assert run(fake_batch(table, output)) == []
    check_complete(output, contents)
    after = results(output)
    assert {name: after[name] for name in before if "f5" in name} == {n: before[n] for n in before if "f5" in n}
    # A batch that was killed before it could note that, or of an earlier version.
    shutil.rmtree(output / ".dlir-batch" / "files")
    run(fake_batch(table, output))
    damage(1, b"")
    assert run(fake_batch(table, output)) == []
    check_complete(output, contents)


def test_beside_a_report_that_cannot_be_read_other_files_stay(tmp_path: Path) -> None:
    table, output = write_table(tmp_path, [b"a"]), tmp_path / "out"
    run(fake_batch(table, output))
    folder = output / "m-to-f0"
    (folder / "report.json").write_bytes(b"")
    (folder / "thesis.docx").write_bytes(b"mine")
    record = output / ".dlir-batch" / "files" / "m-to-f0.json"
    record.write_text(json.dumps([*json.loads(record.read_text()), "thesis.docx", "../summary.csv", 3]))
    assert run(fake_batch(table, output)) == []
    assert (folder / "thesis.docx").read_bytes() == b"mine"
    assert states(output) == ["done"]
    # What no batch is known to have written is nobody's business.
    (folder / "report.json").write_bytes(b"")
    record.write_text(json.dumps(["report.json", "transform.h5", "jacobian.nrrd"]))
    (told,) = run(fake_batch(table, output))
    assert "warped.nrrd' is there already" in told
    assert "give --overwrite" in told
    record.write_text("{")
    assert written_by_batch(output, fake_batch(table, output).source.rows[0]) == frozenset()


def test_files_of_nobody_are_not_replaced(tmp_path: Path) -> None:
    table, output = write_table(tmp_path, [b"a", b"b"]), tmp_path / "out"
    (output / "m-to-f0").mkdir(parents=True)
    (output / "m-to-f0" / "warped.nrrd").write_bytes(b"mine")
    (told,) = run(fake_batch(table, output))
    assert "give --overwrite to have it replaced" in told
    assert states(output) == ["error", "done"]
    assert (output / "m-to-f0" / "warped.nrrd").read_bytes() == b"mine"
    assert run(fake_batch(table, output, Options(model="none", overwrite=True))) == []
    check_complete(output, [b"a", b"b"])


# -- several at a time --------------------------------------------------------------------------------


def test_a_second_batch_in_the_folder_is_refused(tmp_path: Path) -> None:
    table, output = write_table(tmp_path, [b"a", b"b"]), tmp_path / "out"
    batch = fake_batch(table, output)
    with batch.folder.held(Shard()):
        with pytest.raises(OutputError, match=r"another batch works in .*--shard 1/2"):
            run(fake_batch(table, output))
        with pytest.raises(OutputError, match="shared by --shard of 1 parts now"):
            run(fake_batch(table, output, shard=Shard(1, 2)))
    with batch.folder.held(Shard(1, 3)), pytest.raises(OutputError, match="another batch works"):
        run(fake_batch(table, output, shard=Shard(1, 3)))
    assert not list(output.glob("m-*"))


def test_parts_share_the_rows_and_the_last_one_writes_the_summary(tmp_path: Path) -> None:
    contents = [b"a", b"refused", b"c", b"d", b"e"]
    table, output = write_table(tmp_path, contents), tmp_path / "out"
    run(fake_batch(table, output, shard=Shard(2, 3)))
    with fake_batch(table, output).folder.held(Shard(1, 3)):  # one that is at work
        run(fake_batch(table, output, shard=Shard(3, 3)))
    assert not (output / "summary.csv").exists()
    assert [row["row"] for row in summary(output, "summary.2-of-3.csv")] == ["2", "5"]
    run(fake_batch(table, output, shard=Shard(1, 3)))
    assert states(output) == ["done", "error", "done", "done", "done"]
    assert summary(output)[1] == summary(output, "summary.2-of-3.csv")[0]
    text = (output / "summary.csv").read_bytes()
    (output / "summary.csv").unlink()
    (tmp_path / "f0.nrrd").unlink()  # the summary is of what is there, wherever the images are
    fake_batch(table, output).summarize()
    assert (output / "summary.csv").read_bytes() == text


# -- killed -------------------------------------------------------------------------------------------


def _start(table: Path, output: Path, mark: str, scratch: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(SOURCE), str(Path(fake_rows.__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path, "DLIR_TEST_MARK": mark, "TMPDIR": str(scratch)}
    command = [sys.executable, fake_rows.__file__, str(table), str(output), "0.02", "1/1"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def _children(mark: str, parent: subprocess.Popen[bytes]) -> list[int]:
    """The processes that register, once there are some; none where the parent has ended."""
    while parent.poll() is None:
        found = [
            pid
            for pid in processes_with(f"DLIR_TEST_MARK={mark}")
            if pid != parent.pid and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        if found:
            return found
        time.sleep(0.01)
    return []


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "child", "interrupted"])
def test_what_was_killed_is_gone_on_with(tmp_path: Path, victim: str) -> None:
    """Seeded moments; after each nothing is lost, nothing is half there, and what was done is untouched at the end."""
    contents = [b"%d" % number for number in range(30)]
    table, output, scratch = write_table(tmp_path, contents), tmp_path / "out", tmp_path / "tmp"
    scratch.mkdir()
    chance = random.Random(7)
    done: dict[str, tuple[bytes, int]] = {}
    for moment in range(1 if victim == "child" else 2):  # a batch that lost a child goes on to its end
        mark = f"{tmp_path.name}-{moment}"
        process = _start(table, output, mark, scratch)
        children = _children(mark, process)
        time.sleep(chance.uniform(0.05, 0.8))
        match victim:
            case "parent":
                process.kill()
            case "child":
                os.kill(chance.choice(children), signal.SIGKILL)
            case _:
                process.send_signal(signal.SIGINT)
        process.wait(60)
        assert all(is_gone(pid) for pid in processes_with(f"DLIR_TEST_MARK={mark}"))
        whole = [path.parent for path in output.glob("*/report.json")]
        now = {name: held for name, held in results(output).items() if output / Path(name).parent in whole}
        assert {name: now[name] for name in done} == done
        done = {name: held for name, held in now.items() if ".dlir-" not in name}
        assert list(scratch.iterdir()) == []
    run(fake_batch(table, output), TWO)
    after = results(output)
    assert {name: after[name] for name in done} == done
    check_complete(output, contents)
