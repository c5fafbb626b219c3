"""`edge-sdk personalize`: mistakes, interruptions of every kind, and what it leaves and prints."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_sdk import load_embedding
from tests.cli.test_main import call, environment, refused, start

STEPS = 80
LEARNED = "learned_embeds.safetensors"
Command = Callable[..., list[str]]


@pytest.fixture
def command(sd1_folder: Path, photos: Path, tmp_path: Path) -> Command:
    """The words of a run of a few steps in ``tmp_path / "run"``; what is given comes last and so wins."""

    def words(*more: object) -> list[str]:
        base = ["personalize", "--pretrained_model_name_or_path", sd1_folder, "--train_data_dir", photos]
        base += ["--output_dir", tmp_path / "run", "--initializer_token", "dog", "--max_train_steps", 4]
        return [str(word) for word in (*base, "--eval_draws", 2, "--no_preview", *more)]

    return words


@pytest.fixture
def long(command: Command) -> Command:
    return lambda *more: command("--max_train_steps", STEPS, "--checkpointing_steps", 5, *more)


@pytest.fixture(scope="module")
def whole(sd1_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The learned file of a long run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    model = ["--pretrained_model_name_or_path", sd1_folder, "--train_data_dir", photos, "--output_dir", folder]
    few = ["--initializer_token", "dog", "--max_train_steps", STEPS, "--eval_draws", 2, "--no_preview"]
    assert call("personalize", *model, *few, "--checkpointing_steps", 5, "--quiet") == 0
    return (folder / LEARNED).read_bytes()


def newest(folder: Path) -> int:
    return max((int(path.parent.name[11:]) for path in folder.glob("checkpoint-*/state.safetensors")), default=0)


def wait_for_checkpoint(process: "subprocess.Popen[str]", folder: Path, step: int) -> None:
    while newest(folder) < step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_a_run_says_what_it_did(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*command()) == 0
    out, err = capsys.readouterr()
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert f"loss {record['loss_initial']:.4f} -> {record['loss_final']:.4f}" in out
    assert out.endswith(f"wrote {tmp_path}/run/{LEARNED}\n")
    assert "learning from 3 photo(s)" in err and "4/4" in err and "ETA" in err


def test_quiet_prints_nothing(command: Command, tmp_path: Path) -> None:
    process = start(*command("--quiet"))
    assert process.communicate(timeout=120) == ("", "") and process.returncode == 0
    assert (tmp_path / "run" / LEARNED).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_saves_and_the_resumed_run_ends_in_the_same_bytes(
    number: signal.Signals, long: Command, whole: bytes, tmp_path: Path
) -> None:
    process = start(*long("--quiet"))
    wait_for_checkpoint(process, tmp_path / "run", 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.startswith("edge-sdk: stopped after step ") and err.count("\n") == 1
    assert "--resume_from_checkpoint latest" in err and f"step {newest(tmp_path / 'run')}," in err
    assert not (tmp_path / "run" / LEARNED).exists()
    assert call(*long("--quiet", "--resume_from_checkpoint", "latest")) == 0
    assert (tmp_path / "run" / LEARNED).read_bytes() == whole


def test_a_closed_terminal_saves(long: Command, tmp_path: Path) -> None:
    """Its process can write no more lines, which must not end it before it has saved."""
    terminal, end = os.openpty()
    program = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from edge_sdk.cli.main import main; "
    command = [sys.executable, "-c", program + "sys.exit(main(sys.argv[1:]))", *long()]
    process = subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, env=environment(), start_new_session=True, text=True
    )
    os.close(end)
    while newest(tmp_path / "run") < 5:
        assert process.poll() is None
        os.read(terminal, 4096)
    os.close(terminal)
    assert process.wait(timeout=60) == 130
    assert 5 <= newest(tmp_path / "run") < STEPS and newest(tmp_path / "run") % 5


def test_a_run_under_nohup_goes_on(command: Command, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_sdk.cli.main", *command("--quiet", "--max_train_steps", 20)],
        env=environment(), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    while not (tmp_path / "run" / ".lock").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0 and (tmp_path / "run" / LEARNED).exists()


def test_kill_9_at_any_moment_loses_no_checkpoint(long: Command, whole: bytes, tmp_path: Path) -> None:
    resume: list[str] = []
    for moment, delay in ((5, 0.0), (30, 0.013)):
        process = start(*long("--quiet", *resume))
        wait_for_checkpoint(process, tmp_path / "run", moment)
        time.sleep(delay)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL and moment <= newest(tmp_path / "run") < STEPS
        resume = ["--resume_from_checkpoint", "latest"]
    assert call(*long("--quiet", *resume)) == 0
    assert (tmp_path / "run" / LEARNED).read_bytes() == whole
    assert json.loads((tmp_path / "run/run.json").read_text())["resumed"] >= 30


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_unharmed(
    long: Command, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(*long("--quiet"))
    wait_for_checkpoint(process, tmp_path / "run", 5)
    for more in ([], ["--resume_from_checkpoint", "latest"]):
        assert "another run is at work in" in refused(capsys, *long("--quiet", *more))
    assert process.poll() is None
    assert process.communicate(timeout=120) == ("", "") and process.returncode == 0
    assert (tmp_path / "run" / LEARNED).read_bytes() == whole


def test_no_socket_is_opened_for_a_local_model(command: Command, tmp_path: Path) -> None:
    program = (
        "import json, sys\n"
        "seen = []\n"
        "sys.addaudithook(lambda name, args: seen.append([name, str(args[1:])]) if name.startswith('socket.') else 0)\n"
        "from edge_sdk.cli.main import main\n"
        "for words in json.loads(sys.argv[1]): assert main(words) == 0\n"
        "print(json.dumps(seen))"
    )
    draw = ["generate", "--prompt", "a <subject>", "--embedding", tmp_path / "run" / LEARNED, "--quiet"]
    draw += [
        "--pretrained_model_name_or_path",
        command()[2],
        "--num_inference_steps",
        2,
        "--output",
        tmp_path / "x.png",
    ]
    words = json.dumps([command("--quiet"), list(map(str, draw))])
    environ = {name: value for name, value in environment().items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", program, words], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_time_budget_ends_the_run_early(command: Command, tmp_path: Path) -> None:
    assert call(*command("--max_train_steps", 100_000, "--time_budget_s", 2)) == 0
    assert 1 <= json.loads((tmp_path / "run/run.json").read_text())["steps"] < 100_000


def test_a1111_writes_the_form_of_web_uis_as_well(command: Command, tmp_path: Path) -> None:
    assert call(*command("--a1111", "--num_vectors", 2)) == 0
    tensors = load_file(tmp_path / "run/learned_embeds_a1111.safetensors")
    assert list(tensors) == ["emb_params"]
    assert (tensors["emb_params"] == load_embedding(tmp_path / "run" / LEARNED).vectors).all()


def test_no_output_names_a_photo(command: Command, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "album")
    (tmp_path / "album/0.png").rename(tmp_path / "album/grandmother.png")
    assert call(*command("--train_data_dir", tmp_path / "album", "--a1111", "--report_to", "tensorboard")) == 0
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("logs" in path.parts for path in written)
    assert not [path for path in written if b"grandmother" in path.read_bytes() or b"album" in path.read_bytes()]


OPTIONS = """
--num_vectors 0|--num_vectors two|--num_vectors 1000000000000000|--resolution 0|--resolution 12|--resolution 800000000
--max_train_steps 0|--max_train_steps 1.5|--learning_rate 0|--learning_rate nan|--learning_rate inf|--learning_rate -1
--train_batch_size 0|--train_batch_size 5000|--zo_samples 0|--zo_mu 0|--zo_mu nan|--zo_difference sideways
--subspace_buffer 1|--subspace_buffer -1|--subspace_threshold 1|--subspace_threshold nan|--max_batch 0|--eval_draws 0
--eval_draws 1000000000000000|--checkpointing_steps 0|--seed -1|--seed 18446744073709551616|--time_budget_s 0
--time_budget_s nan|--timestep_range 9 3|--timestep_range -1 5|--timestep_range 0 2000|--timestep_range 5
--weights int2|--execution float|--preset slow|--report_to paper|--learnable_property person
--initializer_token zebra|--initializer_token |--placeholder_token dog|--placeholder_token
""".strip().replace("\n", "|")


@pytest.mark.parametrize("words", OPTIONS.split("|"))
def test_an_option_out_of_range_is_named(words: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    name, *values = words.split(" ")
    assert name.removeprefix("--") in refused(capsys, *command("--quiet", name, *values))


@pytest.mark.parametrize("kind", ["missing", "empty", "text only", "name too long"])
def test_photos_that_are_not_there_are_said(
    kind: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ("n" * 300 if kind == "name too long" else "album")
    if kind in ("empty", "text only"):
        folder.mkdir()
    if kind == "text only":
        (folder / "photo.png").write_text("not a picture")
    line = refused(capsys, *command("--quiet", "--train_data_dir", folder))
    assert f"train_data_dir {folder}" in line and not (tmp_path / "run").exists()


def pickle_only(model: Path) -> None:
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def truncated(model: Path) -> None:
    weights = model / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def not_finite(model: Path) -> None:
    path = model / "text_encoder/model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).flat[0] = np.nan
    save_file(tensors, path, {"format": "pt"})


def no_tokenizer(model: Path) -> None:
    shutil.rmtree(model / "tokenizer")


def no_denoiser(model: Path) -> None:
    shutil.rmtree(model / "unet")


def damaged_config(model: Path) -> None:
    (model / "unet/config.json").write_text("{")


def without(part: str, key: str) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        config = json.loads((model / part).read_text())
        (model / part).write_text(json.dumps({name: value for name, value in config.items() if name != key}))

    edit.__name__ = f"no_{key}"
    return edit


def unknown_schedule(model: Path) -> None:
    path = model / "scheduler/scheduler_config.json"
    path.write_text(path.read_text().replace("scaled_linear", "spiral"))


BREAKS = {
    pickle_only: "is a pickle", truncated: "is cut short", not_finite: "not finite", no_tokenizer: "no tokenizer",
    no_denoiser: "unet", damaged_config: "cannot be read as JSON", unknown_schedule: "scheduler",
    without("unet/config.json", "sample_size"): "sample_size",
    without("vae/config.json", "block_out_channels"): "vae",
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), BREAKS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_model_is_said(
    damage: Callable[[Path], None], said: str, command: Command, sd1_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(sd1_folder, tmp_path / "broken")
    damage(tmp_path / "broken")
    line = refused(capsys, *command("--quiet", "--pretrained_model_name_or_path", tmp_path / "broken"))
    assert said in line and str(tmp_path / "broken") in line


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "nobody/nothing", "n" * 300], ids=lambda name: name[:14])
def test_an_unknown_model_is_said(name: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in refused(capsys, *command("--quiet", "--pretrained_model_name_or_path", name))


@pytest.mark.parametrize("resume", ["latest", "nowhere"])
def test_resuming_what_is_not_there_is_said(resume: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"latest": "holds no checkpoint-<step> folder", "nowhere": "nowhere/state.safetensors cannot be read"}
    assert said[resume] in refused(capsys, *command("--quiet", "--resume_from_checkpoint", resume))


def test_an_output_that_is_taken_or_a_file_is_said(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert "choose another place" in refused(capsys, *command("--quiet", "--output_dir", tmp_path / "file"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    assert "already holds run.json" in refused(capsys, *command("--quiet"))
