"""Files that are opened: regular ones only, and none is waited for."""

import os
import shutil
from pathlib import Path

import pytest

from edge_sdk.cli.main import main
from edge_sdk.system.inputs import check_folder, open_input, read_input


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    assert read_input(tmp_path / "link", 3) == b"abc"
    with pytest.raises(OSError, match="larger than 0 MB"):
        read_input(tmp_path / "a", 2)
    with open_input(tmp_path / "a", buffering=0) as file:
        assert file.read() == b"abc"


@pytest.mark.parametrize(("name", "kind"), [("pipe", "a named pipe"), (".", "a directory"), ("/dev/zero", "a device")])
def test_another_file_is_named_by_its_kind(name: str, kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
        open_input(tmp_path / name)


def test_a_folder_is_looked_through(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    check_folder(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(OSError, match="a named pipe"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/tokenizer.json",
        "text_encoder/model.safetensors",
    ],
)
@pytest.mark.parametrize("command", ["generate", "unlearn"])
def test_a_pipe_among_a_models_files_is_refused_without_waiting(
    file: str, command: str, sd1_folder: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    (folder / file).unlink(missing_ok=True)
    os.mkfifo(folder / file)
    arguments = [command, "--pretrained_model_name_or_path", str(folder)]
    if command == "generate":
        arguments += ["--prompt", "a dog", "--output", str(tmp_path / "out.png")]
    else:
        arguments += ["--forget_data_dir", str(photos), "--retain_data_dir", str(photos)]
        arguments += ["--output_dir", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert f"{file.rpartition('/')[2]} " in error and "it is a named pipe" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_pipe_for_an_embedding_is_refused_without_waiting(
    sd1_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "t.safetensors")
    arguments = ["generate", "--pretrained_model_name_or_path", str(sd1_folder), "--prompt", "a dog"]
    arguments += ["--embedding", str(tmp_path / "t.safetensors"), "--output", str(tmp_path / "out.png")]
    assert main(arguments) == 2
    assert "t.safetensors cannot be read: it is a named pipe" in capsys.readouterr().err
