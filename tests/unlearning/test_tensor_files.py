"""Tensors in files: what the operating system refuses is its error."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import replacing
from edge_sdk.unlearning import tensor_files
from edge_sdk.unlearning.tensor_files import save_tensors

TENSORS = {"a": torch.arange(3.0)}
FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


def test_tensors_are_written(tmp_path: Path) -> None:
    save_tensors(TENSORS, tmp_path / "a.safetensors", {"format": "pt"})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["a"], TENSORS["a"])


def test_a_folder_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        save_tensors(TENSORS, tmp_path / "none" / "a.safetensors")
    assert raised.value.errno == errno.ENOENT and raised.value.filename == str(tmp_path / "none" / "a.safetensors")


def test_a_full_disk_leaves_an_older_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"older")

    def full(*_: object) -> None:
        raise SafetensorError(FULL)

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(EdgeSdkError, match="the disk is full"), replacing(path) as temporary:
        save_tensors(TENSORS, temporary)
    assert path.read_bytes() == b"older" and list(tmp_path.iterdir()) == [path]


def test_another_error_of_the_library_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise SafetensorError("Error while serializing: invalid header")

    monkeypatch.setattr(tensor_files, "save_file", wrong)
    with pytest.raises(SafetensorError):
        save_tensors(TENSORS, tmp_path / "a.safetensors")
