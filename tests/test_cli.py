"""The command line as people meet it."""

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from tinyinfer import cli, data
from tinyinfer.nn import file

TINYINFER = [sys.executable, "-c", "import sys; from tinyinfer import cli; sys.exit(cli.main())"]
LENET = Path(__file__).parents[1] / "models" / "lenet.py"

# Small, and quick: the command line is what is tested.
NET = """
from tinyinfer import nn
from tinyinfer.train import Recipe

input_shape = 1, 8, 8
recipes = {"digits": Recipe(epochs=2, batch_size=200, lr=0.2)}

class Net(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))

def build():
    return Net()
"""
FILES = {
    "checkpoint.safetensors", "metrics.jsonl", "run.json", "model.safetensors", "curves.png",
    "mistakes.png",
}  # fmt: skip


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)


@pytest.fixture
def tinyinfer(net, monkeypatch, capsys):
    """(status, standard output, standard error) of a command."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["tinyinfer", *args])
        return cli.main(), *capsys.readouterr()

    return run


def refused(result) -> str:
    """The one line on standard error."""
    status, _, error = result
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1, result
    return error


def metrics(folder):
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def test_help(tinyinfer):
    for args in [], ["--help"]:
        status, out, _ = tinyinfer(*args)
        assert status == 0 and all(
            f" {c} " in out for c in ("train", "evaluate", "draw", "summary", "compile")
        )
    status, out, _ = tinyinfer("train", "--help")
    assert status == 0 and all(
        option in out
        for option in (
            "--data --epochs --batch-size --lr --seed --out --resume --compile --no-compile "
            "--threads --debug-nan"
        ).split()
    )


def test_help_knows_every_data_set_and_every_table(tinyinfer):
    assert ", ".join(data.SETS) in " ".join(tinyinfer("train", "--help")[1].split())
    tables = [path.stem for path in Path(cli.__file__).parent.glob("reproduce/[a-z]*.py")]
    assert tables and all(name in tinyinfer("reproduce", "--help")[1] for name in tables)


def test_train(tinyinfer):
    status, out, error = tinyinfer("train", "net.py")
    assert status == 0
    if which("dot"):
        assert not error and Path("runs/net-digits/graph.svg").exists()
    else:
        assert "graph.gv" in error and "Graphviz" in error and error.count("\n") == 1
    assert "Net on digits: 1,437 images to learn from, 360 to test; in runs/net-digits" in out
    assert re.search(r"epoch 1/2 .* test loss .*\nepoch 2/2 ", out)
    assert re.search(r"test accuracy +\d+\.\d+%", out) and re.search(r"parameters +650", out)
    written = {path.name for path in Path("runs/net-digits").iterdir()}
    assert FILES < written and written - FILES in ({"graph.svg"}, {"graph.gv"})
    assert all(Path("runs/net-digits", name).stat().st_size for name in written)
    assert [row["epoch"] for row in metrics("runs/net-digits")] == [1, 2]


def test_options_take_the_place_of_the_recipe(tinyinfer):
    options = "--epochs 1 --batch-size 300 --lr 0.3 --seed 7 --out there".split()
    assert tinyinfer("train", "net.py", "--data", "digits", *options)[0] == 0
    settings = json.loads(Path("there/run.json").read_text())
    recipe = settings["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"]) == (1, 300, 0.3)
    assert settings["seed"] == 7


def test_the_same_command_twice_makes_two_equal_runs(tinyinfer):
    for _ in range(2):
        assert tinyinfer("train", "net.py", "--epochs", "1")[0] == 0
    a, b = (file.load(f"runs/net-digits{n}/model.safetensors") for n in ("", "-2"))
    assert all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


def test_compiled_it_learns_the_same(tinyinfer):
    for flag in "--compile", "--no-compile":
        assert tinyinfer("train", "net.py", flag, "--out", flag[2:])[0] == 0
    for a, b in zip(metrics("compile"), metrics("no-compile"), strict=True):
        assert all(a[k] == pytest.approx(b[k], rel=1e-4) for k in a if k != "seconds")


def test_resumed_it_stays_compiled(tinyinfer, monkeypatch):
    seen = []
    fit = cli.training.fit
    monkeypatch.setattr(
        cli.training, "fit", lambda run, *args: seen.append(run.compiled) or fit(run, *args)
    )
    options = [], ["--compile"], ["--resume"], ["--resume", "--no-compile"]
    for flags in options:
        assert tinyinfer("train", "net.py", *flags)[0] == 0
    assert seen == [False, True, True, False]


def test_threads(tinyinfer, monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "set_num_threads", asked.append)
    assert tinyinfer("train", "net.py", "--epochs", "1", "--threads", "2")[0] == 0
    assert asked == [2]


def test_a_folder_that_is_taken(tinyinfer):
    assert tinyinfer("train", "net.py", "--epochs", "1", "--out", "x")[0] == 0
    assert "x: there is a run in it: go on with --resume" in refused(
        tinyinfer("train", "net.py", "--out", "x")
    )


def test_evaluate(tinyinfer):
    tinyinfer("train", "net.py")
    expected = metrics("runs/net-digits")[-1]
    for weights in (
        [],
        ["--weights", "runs/net-digits"],
        ["--weights", "runs/net-digits/model.safetensors"],
    ):
        status, out, _ = tinyinfer("evaluate", "net.py", *weights)
        assert status == 0 and "of 360 test images of digits are right" in out
        assert f"accuracy {expected['test_accuracy']:.2%}, loss {expected['test_loss']:.4f}" in out


def test_summary(tinyinfer):
    status, out, _ = tinyinfer("summary", str(LENET))
    assert status == 0 and "conv1" in out and "61,706" in out and "416,520" in out


def test_draw(tinyinfer):
    status, out, _ = tinyinfer("draw", "net.py", "--out", "net.gv")
    assert status == 0 and out == "net.gv\n" and "fc" in Path("net.gv").read_text()
    status, _, _ = tinyinfer("draw", "net.py", "--color-by", "bytes", "--out", "net.gv")
    assert status == 0 and "%" in Path("net.gv").read_text()
    status, _, _ = tinyinfer("draw", "net.py", "--pass", "fuse", "--out", "net.gv")
    assert status == 0 and "fused: " in Path("net.gv").read_text()
    status, _, error = tinyinfer("draw", "net.py", "--pass", "fuze")
    assert status == 2 and "no pass 'fuze' has run" in error


def test_resume_a_finished_run(tinyinfer):
    first = tinyinfer("train", "net.py")[1]
    before = Path("runs/net-digits/metrics.jsonl").read_text()
    Path("runs/net-digits/curves.png").unlink()
    status, out, _ = tinyinfer("train", "net.py", "--resume")
    assert status == 0 and "in runs/net-digits" in out and "epoch 1/2" not in out
    assert out.splitlines()[1:] == first.splitlines()[3:]  # the same result
    assert Path("runs/net-digits/metrics.jsonl").read_text() == before
    assert Path("runs/net-digits/curves.png").exists()


@pytest.mark.parametrize(
    "args, message",
    [
        ("trian net.py", "No such command 'trian'"),
        ("train", "Missing argument 'MODEL.py': see tinyinfer train --help"),
        ("train net.py --data letters", "letters"),
        ("train net.py --epochs many", "'--epochs'"),
        ("train net.py --speed 3", "No such option"),
        ("train net.py --epochs 0", "recipe epochs: a whole number from 1 on, not 0"),
        ("train net.py --lr -1", "recipe lr: a number in [0, 3e38], not -1.0"),
        ("train net.py --seed -1", "seed"),
        ("train net.py --threads 0", "a whole number from 1 on, not 0"),
        ("train none.py", "none.py: there is no such model file"),
        ("train net.py --resume", "there is no run: `tinyinfer train` makes one"),
        ("train net.py --resume --out nowhere", "nowhere/checkpoint.safetensors: there is no such"),
        ("train net.py --out net.py/x", "net.py/x"),
        ("evaluate net.py", "runs/net-digits: there is no run: `tinyinfer train` makes one"),
        ("evaluate net.py --weights none", "none: there is no such file"),
        ("evaluate net.py --weights net.py", "net.py: this cannot be read as safetensors"),
        ("draw net.py --out net.xyz", "xyz"),
        ("summary none.py", "none.py: there is no such model file"),
    ],
)
def test_mistakes_get_one_line(tinyinfer, args, message):
    result = tinyinfer(*args.split())
    assert message in refused(result) and not result[1]
    assert not Path("runs").exists()


def test_a_model_without_build(tinyinfer):
    Path("net.py").write_text("input_shape = 1, 8, 8")
    assert "net.py: it has no build()" in refused(tinyinfer("train", "net.py"))


@pytest.mark.parametrize(
    "body, message",
    [
        ("self.nolayer(x)", "net.py, line 13: AttributeError: 'Net' object has no attribute 'no"),
        ("self.fc(x)", "net.py, line 13: fc, Linear(64, 10): linear: "),
        ("exit()", "net.py, line 13: SystemExit: None"),
        ("None", "net.py, line 12: this forward returned a NoneType: end it with `return`"),
        ("(self.fc(x.flatten(1)), x)", "net.py, line 12: this forward returned a tuple"),
    ],
)
def test_a_forward_that_fails(tinyinfer, body, message):
    tinyinfer("train", "net.py", "--epochs", "1")
    Path("net.py").write_text(NET.replace("self.fc(x.flatten(1))", body))
    for command in "train", "evaluate", "draw":
        assert message in refused(tinyinfer(command, "net.py"))
    if "returned" not in message:
        assert message in refused(tinyinfer("summary", "net.py"))


def test_a_failure_of_our_own_is_not_hidden(tinyinfer, monkeypatch):
    monkeypatch.delattr(cli.training.folder, "draw")
    with pytest.raises(AttributeError, match="draw"):
        tinyinfer("draw", "net.py")


def test_a_resumed_run_stays_what_it_was(tinyinfer):
    tinyinfer("train", "net.py")
    resume = "train", "net.py", "--resume", "--out", "runs/net-digits"
    assert "this run has lr 0.2, not 0.5" in refused(tinyinfer(*resume, "--lr", "0.5"))
    Path("net.py").write_text(NET.replace("Net", "Other"))
    assert "this run has model Net, not Other" in refused(tinyinfer(*resume))
    Path("net.py").write_text(NET.replace("fc", "last"))
    assert "fc.weight" in refused(tinyinfer(*resume))
    checkpoint = Path("runs/net-digits/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "cannot be read" in refused(tinyinfer(*resume))


def test_plan(tinyinfer):
    files = "--out", "arena.svg", "--compare", "--json", "plan.json"
    status, out, _ = tinyinfer("plan", str(LENET), "--batch", "2", *files)
    assert status == 0 and "lower bound" in out and "conv2d" in out
    plan = json.loads(Path("plan.json").read_text())
    assert f"arena of {plan['arena_bytes']:,} bytes" in out and Path("arena.svg").exists()
    assert plan["steps"][0]["spec"] == "float32[2, 6, 28, 28]"
    status, _, error = tinyinfer("plan", str(LENET), "--memory", "nothing")
    assert status == 2 and "greedy_by_size" in error and len(error.splitlines()) == 1


def test_compile(tinyinfer):
    status, out, _ = tinyinfer("compile", "net.py", "--batch", "3")
    assert status == 0 and out.startswith('"""net: 1 steps.') and "\ndef run(arena, x, " in out
    ast.parse(out)
    assert tinyinfer("compile", "net.py", "--batch", "3", "-o", "f.py")[1] == "f.py\n"
    assert Path("f.py").read_text() == out
    status, out, _ = tinyinfer("compile", "net.py", "--backend", "planned")
    assert status == 0 and out.startswith("arena of ") and "gemm" in out
    status, out, _ = tinyinfer("compile", "net.py", "--backend", "interpreted", "--train")
    assert status == 0 and out.startswith("graph(%images: f32[1, 1, 8, 8], %labels: i64[1]")
    assert "%fc.bias <- " in out
    assert "a whole number from 1 on, not 0" in refused(
        tinyinfer("compile", "net.py", "--threads", "0")
    )
    assert "greedy" in refused(tinyinfer("compile", "net.py", "--backend", "greedy"))
    assert "x/f.py" in refused(tinyinfer("compile", "net.py", "-o", "x/f.py"))


def test_a_loss_that_is_none(tinyinfer):
    args = "train", "net.py", "--lr", "1e38", "--out", "x"
    assert re.search(r"epoch 1, step \d: the loss is (nan|inf):", refused(tinyinfer(*args)))
    assert file.load("x/checkpoint.safetensors")
    args = "train", "net.py", "--lr", "1e38", "--debug-nan"
    assert re.search(r"step \d: .*; \w+ in .* made .* of float32\[", refused(tinyinfer(*args)))


def test_traceback(tinyinfer):
    for args in ["--traceback", "train", "none.py"], ["train", "none.py", "--traceback"]:
        with pytest.raises(cli.TinyinferError, match="no such model file"):
            tinyinfer(*args)


def start(*args, **env):
    """A real process, of which every line can be waited for."""
    return subprocess.Popen(
        [*TINYINFER, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | env,
    )


def test_colours_in_a_pipe_bring_no_bar(net):
    with start("train", "net.py", FORCE_COLOR="1") as process:
        lines = process.communicate()[0].splitlines()
    assert process.returncode == 0 and "\x1b[" in lines[0]
    assert not any("images/s" in line and line.startswith("epoch") for line in lines)
    assert sum("epoch " in line for line in lines) == 3 and len(lines) < 15  # 1, 2, and the best


@pytest.mark.parametrize("asked, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_and_resumed(net, asked, status):
    Path("net.py").write_text(NET.replace("epochs=2", "epochs=60"))
    command = "train", "net.py", "--out", "whole"
    with start(*command) as whole:
        assert whole.wait() == 0, whole.stderr.read()
    with start(*command[:-1], "run") as stopped:
        for line in stopped.stdout:
            if line.startswith("epoch"):
                break
        stopped.send_signal(asked)
        rest, error = stopped.communicate()
        assert (stopped.returncode, error) == (status, "")
    (again,) = re.findall(r"To go on:\n  tinyinfer (.*)", rest)
    assert f"Stopped by {asked.name} after {len(metrics('run'))} of 60 epochs" in rest
    assert 0 < len(metrics("run")) < 60
    with start(*shlex.split(again)) as resumed:
        assert resumed.wait() == 0, resumed.stderr.read()
    a, b = (file.load(f"{name}/checkpoint.safetensors") for name in ("whole", "run"))
    assert a.keys() == b.keys()
    assert all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


def test_stopped_while_it_draws(net):
    command = "train", "net.py", "--out", "run"
    with start(*command) as stopped:
        for line in stopped.stdout:
            if line.startswith("parameters"):
                break
        stopped.send_signal(signal.SIGINT)
        rest, error = stopped.communicate()
    assert (stopped.returncode, error) == (130, "")
    assert "Stopped by SIGINT after 2 of 2 epochs, and saved. To go on:" in rest
    assert f"tinyinfer {shlex.join(command[:2])} --data digits --out run --resume" in rest


def test_nothing_of_typer_or_rich_is_needed_for_the_rest():
    code = "import sys, tinyinfer.train; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert not {"typer", "rich", "matplotlib"} & set(modules.stdout.split())
