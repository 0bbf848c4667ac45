"""What the launchers would run on a pod: nothing in a dry run, and otherwise arguments that survive every shell."""

import importlib
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Spaces, quotes of both kinds, what shells expand, what Python's format does, unicode, nothing at all.
STRANGE = [
    "--out",
    "a b",
    "it's",
    'say "so"',
    "$HOME `id` $(id)",
    "*;|&<>#!~",
    "{0} %s %%",
    "ü ⊙ 票",
    "",
    "--",
    "-n",
    "\\",
]
LAUNCHERS = {
    "tpu_vm": ["my pod", "--zone", "us-east5-b", "--project", "it's mine"],
    "xpk": ["run", "--cluster", "my cluster", "--tpu-type", "v5litepod-16", "--docker-image", "gcr.io/p/jaxticket"],
    "slurm": ["--nodes", "2", "--gpus-per-node", "4", "--time", "1:00:00", "--sbatch=--comment=it's mine"],
}
RECORDER = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" >> "$RECORD"
printf '\\n' >> "$RECORD"
[ "${0##*/}" != sbatch ] || cat > "$RECORD.script"
"""


def launch(name, *argv):
    return importlib.import_module(f"experiments.launch.{name}").main(list(argv))


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Programs that note what they were called with, and a function that reads it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gcloud", "xpk", "sbatch", "git", "srun", "scontrol", "scancel", "python", "my python", "pip"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    record = tmp_path / "record"
    record.write_text("")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))

    def calls():
        text = record.read_text()
        record.write_text("")
        return [line.split("\0") for line in text.split("\0\n")[:-1]]

    calls.script = record.with_name("record.script")
    return calls


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_dry_run_prints_the_commands_and_runs_nothing(name, recorded, capfd):
    assert launch(name, *LAUNCHERS[name], "--dry-run", "--", "imp.py", "--levels", "3") == 0
    printed = capfd.readouterr().out
    assert "experiments/imp.py --distributed --levels 3" in printed
    assert recorded() == []
    assert launch(name, *LAUNCHERS[name], "--", "imp.py", "--levels", "3") == 0
    first = shlex.split(printed.splitlines()[0])
    assert recorded()[0] == first


def test_strange_arguments_reach_the_processes_of_a_tpu_pod(recorded, tmp_path):
    launch("tpu_vm", *LAUNCHERS["tpu_vm"], "--python", "my python", "--", "imp.py", *STRANGE)
    archive, copy, start = recorded()
    assert archive[:2] == ["git", "archive"]
    assert copy[:5] == ["gcloud", "compute", "tpus", "tpu-vm", "scp"]
    where = ["--zone=us-east5-b", "--project=it's mine", "--worker=all"]
    assert copy[6:] == ["my pod:launch.tar.gz", *where]
    assert start[1:9] == ["compute", "tpus", "tpu-vm", "ssh", "my pod", *where]
    # What a host does with it: unpack, install, start.
    (tmp_path / "host" / "jaxticket" / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "host" / "jaxticket" / ".venv" / "bin" / "python").symlink_to(tmp_path / "bin" / "python")
    subprocess.run(["tar", "-czf", tmp_path / "host" / "launch.tar.gz", "-T", "/dev/null"], check=True)
    subprocess.run(["sh", "-c", start[9].removeprefix("--command=")], cwd=tmp_path / "host", check=True)
    install, experiment = recorded()
    assert install[1:4] == ["-m", "pip", "install"]
    assert experiment == ["python", "experiments/imp.py", "--distributed", *STRANGE]


def test_strange_arguments_reach_the_processes_of_kubernetes(recorded):
    launch("xpk", *LAUNCHERS["xpk"], "--", "imp.py", *STRANGE)
    (call,) = recorded()
    assert call[:3] == ["xpk", "workload", "create"]
    assert "--cluster=my cluster" in call
    assert not any(argument.startswith("--script-dir") for argument in call)
    (command,) = (argument.removeprefix("--command=") for argument in call if argument.startswith("--command="))
    subprocess.run(["bash", "-c", f"({command}) & wait"], check=True)
    assert recorded() == [["python", "experiments/imp.py", "--distributed", *STRANGE]]


def test_xpk_adds_this_checkout_to_a_base_image(recorded):
    launch("xpk", *LAUNCHERS["xpk"][:-2], "--base-docker-image", "python:3.12", "--", "imp.py")
    assert f"--script-dir={ROOT}" in recorded()[0]


def test_strange_arguments_reach_the_processes_of_a_job(recorded, monkeypatch):
    launch("slurm", *LAUNCHERS["slurm"], "--python", "my python", "--", "imp.py", *STRANGE)
    (call,) = recorded()
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--requeue", "--comment=it's mine"} < {*call}
    done = subprocess.run(["bash", recorded.script], check=False)
    assert done.returncode == 0
    (job,) = recorded()
    assert job[:2] == ["srun", "--kill-on-bad-exit=1"]
    assert job[2:] == ["my python", "experiments/imp.py", "--distributed", *STRANGE]


def test_a_job_fails_if_its_processes_do(recorded, tmp_path):
    launch("slurm", *LAUNCHERS["slurm"], "--", "imp.py")
    (tmp_path / "bin" / "srun").write_text("#!/bin/bash\nexit 3\n")
    assert subprocess.run(["bash", recorded.script], check=False).returncode == 3


def test_a_job_that_is_stopped_waits_for_its_processes_and_queues_again(recorded, tmp_path, monkeypatch):
    launch("slurm", *LAUNCHERS["slurm"], "--", "imp.py")
    recorded()
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    # Here srun ends some time after it was told to, as processes do that still save; scancel tells it.
    (tmp_path / "bin" / "srun").write_text(
        f"#!/bin/bash\ntrap 'sleep 0.2; touch {tmp_path}/saved; exit 0' TERM\necho $$ > {tmp_path}/pid\n"
        "while :; do sleep 0.05; done\n"
    )
    scancel = (tmp_path / "bin" / "scancel").read_text() + f"kill -TERM $(cat {tmp_path}/pid)\n"
    (tmp_path / "bin" / "scancel").write_text(scancel)
    job = subprocess.Popen(["bash", recorded.script])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert job.poll() is None
    job.terminate()
    assert job.wait(timeout=30) == 0
    assert (tmp_path / "saved").exists()
    assert recorded() == [["scancel", "--signal=TERM", "42"], ["scontrol", "requeue", "42"]]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "--zone", "z"], "after -- comes one of"),
        (["run", "--zone", "z", "--", "nothing.py"], "not 'nothing.py'"),
        (["run", "--zone", "z", "--", "../setup.py"], "not '../setup.py'"),
        (["run", "--zone", "z", "--", "imp.py", "a\nb"], "line break"),
        (["run", "--", "imp.py"], "--zone"),
    ],
)
def test_wrong_flags_end_in_one_line(argv, words, recorded, capfd):
    with pytest.raises(SystemExit) as end:
        launch("tpu_vm", *argv)
    assert end.value.code == 2
    assert words in capfd.readouterr().err.splitlines()[-1]
    assert recorded() == []


def test_a_program_that_is_missing_or_fails_ends_it(recorded, tmp_path, monkeypatch):
    (tmp_path / "bin" / "xpk").write_text("#!/bin/sh\nexit 7\n")
    with pytest.raises(SystemExit) as end:
        launch("xpk", *LAUNCHERS["xpk"], "--", "imp.py")
    assert end.value.code == 7
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="xpk is not installed"):
        launch("xpk", *LAUNCHERS["xpk"], "--", "imp.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_as_a_script_without_jaxticket(name):
    """A laptop that starts a pod needs Python alone (-S: no installed package is found)."""
    script = ROOT / "experiments" / "launch" / f"{name}.py"
    run = subprocess.run([sys.executable, "-S", script, "--help"], capture_output=True, text=True, check=True)
    assert "--dry-run" in run.stdout
