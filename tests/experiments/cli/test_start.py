"""Commands as processes: environments that are odd or wrong, Ctrl-C and SIGTERM."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from experiments.cli import errors, interruption, processes
from experiments.cli import start as begin
from tests.experiments import small

ROOT = Path(__file__).parents[3]
TINY = (
    "--train-images-per-class", "4", "--test-images-per-class", "2", "--source-epochs", "1",
    "--sources", "1", "--batch-size", "20", "--distances", "euclidean", "--clusters", "2",
    "--baselines", "random", "--pairs", "10-14",
)  # fmt: skip
WHOLE = ("-m", "experiments.clusters")
QUICK = ("-c", small.CLUSTERS)  # the same with networks that compile faster


def start(folder, *options, command=WHOLE, **variables):
    """Starts a command in a folder; a variable of None is unset."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [sys.executable, *command, *TINY, *options],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JAX_ENABLE_X64": "maybe"}, "correct or unset JAX_ENABLE_X64"),
        ({"JAX_PLATFORMS": "abacus"}, "correct or unset JAX_PLATFORMS"),
        ({"PYTHONIOENCODING": "ascii"}, "set PYTHONIOENCODING to utf-8"),
    ],
)
def test_an_environment_that_is_wrong_gets_a_sentence(tmp_path, variables, words):
    process = start(tmp_path, **variables)
    _, news = process.communicate(timeout=120)
    assert process.returncode == 2
    assert news.startswith("error: ")
    assert news.endswith(f"{words}\n")
    assert news.count("\n") == 1


def test_a_notebooks_backend_and_no_home_do_not_stop_the_work(tmp_path):
    (tmp_path / "file").touch()
    process = start(
        tmp_path,
        "--epochs",
        "1",
        "--network",
        "vgg11",
        command=QUICK,
        MPLBACKEND="module://no_such.backend",
        HOME=str(tmp_path / "file"),  # below which nothing can be made, not even by root
    )
    said, news = process.communicate(timeout=240)
    assert process.returncode == 0, news
    assert "Traceback" not in news
    assert "finished in" in said
    assert list((tmp_path / "output" / "clusters").glob("*.svg"))


def test_only_tables_need_an_output_that_can_print_their_signs(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    with pytest.raises(SystemExit), errors.exit_status():
        pass
    with errors.exit_status(tables=False):
        print("output/ü", flush=True)
    assert printed.getvalue() == b"output/\\xfc\n"


def test_a_path_that_nothing_else_says_a_sentence_about(capsys):
    with pytest.raises(SystemExit) as caught, errors.exit_status():
        Path("9" * 400).stat()
    assert caught.value.code == 2
    assert "9 cannot be used (File name too long): check the path" in capsys.readouterr().err


def test_without_a_folder_for_temporary_files_nothing_is_begun(monkeypatch, capsys):
    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(SystemExit) as caught:
        begin._check_temporary()
    assert caught.value.code == 2
    assert "set TMPDIR to a folder that can be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "closed", "read"), [("--help", "stdout", "stderr"), ("--none", "stderr", "stdout")]
)
def test_where_nobody_reads_on_a_command_ends_in_silence(tmp_path, option, closed, read):
    with start(tmp_path, option) as process:
        getattr(process, closed).close()
        assert getattr(process, read).read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def run_inside(program, *, before="", stdout=subprocess.PIPE, **variables):
    """Runs lines of Python inside `exit_status`."""
    lines = [before, "from experiments.cli import errors", "with errors.exit_status():"]
    lines += [f"    {line}" for line in program]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, **variables},
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def unread():
    """A pipe that nobody reads."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_is_full_gets_a_sentence(unbuffered):
    with open("/dev/full", "w") as full:
        done = run_inside(["print('a table')"], stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr.startswith("error: what is written cannot be kept (No space left")
    assert done.stderr.count("\n") == 1


def test_what_went_wrong_is_said_though_nobody_reads_the_output(unread):
    wrong = ["print('a table')", "raise errors.UserError('this is wrong')"]
    done = run_inside(wrong, stdout=unread, PYTHONUNBUFFERED="")
    assert (done.returncode, done.stderr) == (2, "error: this is wrong\n")
    bug = ["print('a table')", "raise ValueError('a bug')"]
    assert "ValueError: a bug" in run_inside(bug, stdout=unread, PYTHONUNBUFFERED="").stderr
    # Nor is a pipe that breaks elsewhere passed over.
    pipe = ["raise BrokenPipeError('of a worker')"]
    assert "BrokenPipeError: of a worker" in run_inside(pipe).stderr


def test_a_command_without_any_output_works():
    done = run_inside(["print('a table')"], before="import os, sys; os.close(1); sys.stdout = None")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["imports", "trains", "is terminated"])
def test_an_interruption_ends_in_one_line(tmp_path, how):
    command = WHOLE if how == "imports" else QUICK
    process = start(tmp_path, "--epochs", "100000", "--network", "vgg11", command=command)
    kind = signal.SIGTERM if how == "is terminated" else signal.SIGINT
    try:
        if how == "imports":
            time.sleep(0.7)
        else:
            while not list(tmp_path.glob("output/sources/*/runs/*.json")):
                assert process.poll() is None
                time.sleep(0.05)
        process.send_signal(kind)
        said, news = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + kind
    lines = [line for line in news.splitlines() if line.startswith(("interrupted", "ended by"))]
    assert lines == [news.splitlines()[-1]]
    assert said == ""
    assert "Traceback" not in news
    if how == "imports":
        assert news == "interrupted: nothing is recorded yet, the same command starts again\n"
    else:
        assert ": recorded runs: 1 in output/sources/procedural-" in lines[0]
        assert lines[0].endswith("; the same command goes on from there")


def test_the_sentence_counts_what_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_folders", {})
    assert interruption.sentence("x") == "x: nothing is recorded yet, the same command starts again"
    for name, count in (("a", 2), ("b", 0), ("c", 1)):
        (tmp_path / name / "runs").mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / "runs" / f"{number}.json").touch()
        interruption.records_in(tmp_path / name)
    assert interruption.sentence("x") == (
        f"x: recorded runs: 2 in {tmp_path / 'a'}, 1 in {tmp_path / 'c'}; the same command goes on "
        "from there"
    )


def test_an_interruption_counts_what_an_archive_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_folders", {})
    (tmp_path / "runs.jsonl").write_text("{}\n{}\n")
    interruption.records_in(tmp_path)
    assert f"recorded runs: 2 in {tmp_path};" in interruption.sentence("x")


def test_importing_the_package_changes_nothing_for_others():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.excepthook is not interruption._raised


def cache():
    name = "jax_compilation_cache_dir"  # which has no type
    return getattr(jax.config, name)


def test_a_compilation_cache_that_cannot_be_used_is_done_without(tmp_path, monkeypatch, capsys):
    former = cache()
    (tmp_path / "file").touch()
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "cache"))
        processes.setup_jax()
        assert cache() is None
        assert "compiled programs are not kept: JAX_COMPILATION_" in capsys.readouterr().err
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "new" / "cache"))
        processes.setup_jax()
        assert cache() == str(tmp_path / "new" / "cache")
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        processes.setup_jax()
        assert cache() is None
        assert capsys.readouterr().err == ""
    finally:
        jax.config.update("jax_compilation_cache_dir", former)


def test_where_there_is_no_home_there_is_no_cache_of_ones_own(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert processes.own_cache("data") is None
