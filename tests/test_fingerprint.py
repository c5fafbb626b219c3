"""A model has one identity: of every byte of its weights, tokenizers and configs, remembered while nothing changes."""

import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import EdgeSdkError, pocket, quantize
from edge_sdk.cli.main import main
from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.folder import INTEGER_MARK, copy_data, data_start, fingerprint, read_header, weights_fingerprint
from edge_sdk.embedding import load_embedding
from edge_sdk.export.bundle import export
from edge_sdk.system import digest_cache, user_cache

PLACE = digest_cache.path
UNET = Path("unet/diffusion_pytorch_model.safetensors")


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory of the test's own."""
    place = tmp_path / "cache" / "edge-sdk" / "digests.json"
    monkeypatch.setattr(digest_cache, "path", lambda: place)
    return place


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is large enough to be remembered, as soon as it is written."""
    monkeypatch.setattr(model_files, "REMEMBERED_FROM", 0)
    monkeypatch.setattr(model_files, "SETTLED_NS", -1)


def negate_one_weight(file: Path, tensor: str, index: int = 0) -> None:
    """Flip the sign of one number in place; size and time of change of the content stay."""
    entry, before = read_header(file)[tensor], file.stat()
    width = {"F32": 4, "F16": 2, "I8": 1}[entry["dtype"]]
    with open(file, "r+b") as data:
        place = data_start(file) + entry["data_offsets"][0] + (index + 1) * width - 1  # where the sign is
        data.seek(place)
        (byte,) = data.read(1)
        data.seek(place)
        data.write(bytes([byte ^ 0x80]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_byte_of_every_file_counts(model: Path, sd1_folder: Path) -> None:
    before = fingerprint(model)
    assert before == fingerprint(sd1_folder)
    files = [path for path in model.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) >= 9
    for path in files:
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, -1):
            changed = bytearray(whole)
            changed[at] ^= 1
            path.write_bytes(changed)
            assert fingerprint(model) != before, path.name
        path.write_bytes(whole)
    assert fingerprint(model) == before


@pytest.mark.parametrize("at", [0, 1 << 16, (3 << 20) - (1 << 16) - 1, 3 << 20, -1])
def test_every_byte_of_a_large_file_counts(at: int, model: Path) -> None:
    data = bytearray((6 << 20) + 5)
    (model / UNET).write_bytes(data)
    before = fingerprint(model)
    data[at] = 1
    (model / UNET).write_bytes(data)
    assert fingerprint(model) != before


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/spiece.model",
        "tokenizer_3/tokenizer.bin",
        "tokenizer_2/merges",
        "more.json",
        "text_encoder_3/a.txt",
        "unet/model-00001-of-00002.safetensors",
        "a/b/c/config.json",
    ],
)
def test_what_is_added_counts(name: str, model: Path) -> None:
    before = fingerprint(model)
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("")
    added = fingerprint(model)
    (model / name).write_text("x")
    assert len({before, added, fingerprint(model)}) == 3


LEFTOVERS = ("tokenizer/.DS_Store", "tokenizer/._vocab.json", "tokenizer/Thumbs.db", ".git/x.json", "unet/._x.json")


def test_what_desktops_and_git_leave_behind_does_not_count_and_is_not_copied(model: Path, tmp_path: Path) -> None:
    before = fingerprint(model)
    for name in LEFTOVERS:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"\0\5\x16\7")
    assert fingerprint(model) == before
    copy_data(model / "tokenizer", tmp_path / "copy")
    assert not [path.name for path in (tmp_path / "copy").iterdir() if path.name[0] == "."]


def test_files_behind_links_count_as_in_a_hubs_cache(model: Path, tmp_path: Path) -> None:
    before = fingerprint(model)
    (model / "unet").rename(tmp_path / "elsewhere")
    (model / "unet").symlink_to(tmp_path / "elsewhere")
    blob = (model / UNET).rename(tmp_path / "blob")
    (model / UNET).symlink_to(blob)
    assert fingerprint(model) == before
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
    assert fingerprint(model) != before


def test_folders_that_lead_into_each_other_and_broken_links_end(model: Path) -> None:
    before = fingerprint(model)
    (model / "unet" / "up").symlink_to(model)
    (model / "unet" / "gone.json").symlink_to("nowhere")
    os.mkfifo(model / "unet" / "pipe.json")
    assert isinstance(fingerprint(model), str)
    for name in ("up", "gone.json", "pipe.json"):
        (model / "unet" / name).unlink()
    assert fingerprint(model) == before


def test_a_name_cannot_stand_for_two_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / "a.json").write_text("x")
    (one / "b.json").write_text("yy")
    (two / "a.json:1:xb.json").write_text("yy")
    assert fingerprint(one) != fingerprint(two)


def test_a_file_that_cannot_be_read_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(model / UNET))

    monkeypatch.setattr(model_files.hashlib, "file_digest", refuse)
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*safetensors cannot be read: Permission denied$"):
        fingerprint(model)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content is read."""
    names: list[str] = []
    real = model_files.hashlib.file_digest
    monkeypatch.setattr(
        model_files.hashlib, "file_digest", lambda file, kind: names.append(file.name) or real(file, kind)
    )
    return names


def test_a_large_model_is_hashed_once(model: Path, is_large: None, hashed: list[str], cache: Path) -> None:
    first = fingerprint(model)
    assert len(hashed) >= 9
    hashed.clear()
    assert fingerprint(model) == first and hashed == []
    assert cache.stat().st_mode & 0o777 == 0o600 and cache.parent.stat().st_mode & 0o777 == 0o700
    assert str(model) not in cache.read_text() and "unet" not in cache.read_text()
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_a_small_model_and_one_that_was_just_written_are_not_remembered(
    model: Path, hashed: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint(model)
    assert not cache.exists()
    monkeypatch.setattr(model_files, "REMEMBERED_FROM", 0)
    fingerprint(model)
    assert not cache.exists()
    now = time.time_ns()
    monkeypatch.setattr(model_files.time, "time_ns", lambda: now + 10**10)
    fingerprint(model)
    assert cache.exists()


def test_an_edit_in_place_that_sets_the_time_back_is_seen(model: Path, is_large: None) -> None:
    before = fingerprint(model)
    assert fingerprint(model) == before
    time.sleep(0.02)  # a tick of the file system's clock
    negate_one_weight(model / UNET, "conv_in.weight")
    assert fingerprint(model) != before


def test_another_file_of_the_same_size_and_times_is_seen(model: Path, is_large: None, tmp_path: Path) -> None:
    before, times = fingerprint(model), (model / UNET).stat()
    other = bytearray((model / UNET).read_bytes())
    other[-1] ^= 1
    (tmp_path / "other").write_bytes(other)
    os.utime(tmp_path / "other", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "other").replace(model / UNET)
    assert fingerprint(model) != before


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "text": lambda path: path.write_text("no json"),
    "a list": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 60_000),
    "not a hash": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), "1"))),
    "a number": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 1))),
    "huge": lambda path: path.write_text(path.read_text() + " " * (1 << 20)),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path, 0o600)),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("x"))),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "others may write it": lambda path: path.chmod(0o622),
    "others may write its folder": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_memory_that_is_damaged_or_not_ours_is_left_aside(
    damage: Callable[[Path], object], model: Path, is_large: None, hashed: list[str], cache: Path
) -> None:
    first = fingerprint(model)
    hashed.clear()
    damage(cache)
    assert fingerprint(model) == first and len(hashed) >= 9


def test_a_forged_memory_in_a_folder_of_everyones_is_not_believed(model: Path, is_large: None, cache: Path) -> None:
    first = fingerprint(model)
    cache.write_text(json.dumps(dict.fromkeys(json.loads(cache.read_text()), "0" * 64)))
    assert fingerprint(model) == "0" * 64  # the file is ours, so it counts
    cache.parent.chmod(0o777)
    assert fingerprint(model) == first


@pytest.mark.parametrize("place", ["relative/cache", "/proc/no/cache"])
def test_a_place_that_cannot_be_used_is_no_error(
    place: str, model: Path, is_large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_cache, "path", PLACE)
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert fingerprint(model) == fingerprint(model)
    assert not (tmp_path / "relative").exists()


def test_the_memory_keeps_the_newest(cache: Path) -> None:
    for number in range(user_cache.MOST + 3):
        digest_cache.remember(f"{number:064x}", "a" * 64)
    assert digest_cache.recall(f"{2:064x}") is None and digest_cache.recall(f"{3:064x}") == "a" * 64
    assert len(json.loads(cache.read_text())) == user_cache.MOST
    assert cache.stat().st_size < user_cache.MOST_BYTES


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The embedded model, and it with one weight in the middle of its denoiser negated."""
    models = tmp_path / "one", tmp_path / "two"
    for folder in models:
        shutil.copytree(pocket.MODEL, folder)
    middle = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    header = read_header(models[1] / UNET)
    assert 1 << 16 < header[middle]["data_offsets"][0] < (models[1] / UNET).stat().st_size - (1 << 17)
    negate_one_weight(models[1] / UNET, middle, 5)
    return models


def test_what_is_made_of_a_model_that_differs_in_one_weight_is_told_apart(
    pair: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    identities = set()
    for folder in pair:
        out = tmp_path / f"of-{folder.name}"
        quantize(str(folder), out / "integers")
        mark = json.loads((out / "integers" / INTEGER_MARK).read_text())
        part = read_header(out / "integers" / "unet" / "integer_model.safetensors")["__metadata__"]["source_hash"]
        manifest = export(str(folder), out / "bundle")
        assert mark["source_sha256"] == part == manifest["model"]["sha256"] == fingerprint(folder)
        identities |= {part, fingerprint(out / "integers")}
    assert len(identities) == 4


def test_a_run_is_not_resumed_on_a_model_that_differs_in_one_weight(
    pair: tuple[Path, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = [
        "personalize",
        "--train_data_dir",
        str(photos),
        "--output_dir",
        str(run),
        "--initializer_token",
        "person",
        "--max_train_steps",
        "2",
        "--checkpointing_steps",
        "1",
        "--eval_draws",
        "2",
        "--no_preview",
        "--quiet",
    ]
    assert main([*words, "--pretrained_model_name_or_path", str(pair[0])]) == 0
    learned = load_embedding(run / "learned_embeds.safetensors")
    assert learned.metadata["model_sha256"] == fingerprint(pair[0])
    (run / "learned_embeds.safetensors").unlink()
    shutil.rmtree(run / "checkpoint-2")
    again = [*words, "--resume_from_checkpoint", "latest"]
    capsys.readouterr()
    assert main([*again, "--pretrained_model_name_or_path", str(pair[1])]) == 2
    error = capsys.readouterr().err
    assert "made with another model" in error and error.count("\n") == 1
    assert not (run / "learned_embeds.safetensors").exists()
    assert main([*again, "--pretrained_model_name_or_path", str(pair[0])]) == 0
    same = load_embedding(run / "learned_embeds.safetensors")
    np.testing.assert_array_equal(same.vectors, learned.vectors)


def test_a_checkpoint_of_an_earlier_version_is_refused_in_a_line_that_says_so(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = [
        "personalize",
        "--train_data_dir",
        str(photos),
        "--output_dir",
        str(run),
        "--max_train_steps",
        "1",
        "--checkpointing_steps",
        "1",
        "--eval_draws",
        "2",
        "--no_preview",
        "--quiet",
    ]
    assert main(words) == 0
    (run / "learned_embeds.safetensors").unlink()
    state = run / "checkpoint-1" / "state.safetensors"
    data = state.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert data[:length].count(b'"schema_version":"') + data[:length].count(b'"schema_version": "') == 1
    for mark in (b'"schema_version":"', b'"schema_version": "'):
        data = data.replace(mark + b"3", mark + b"2")
    state.write_bytes(data)
    capsys.readouterr()
    assert main([*words, "--resume_from_checkpoint", "latest"]) == 2
    error = capsys.readouterr().err
    assert "another version of edge-sdk" in error and "start a new run" in error and error.count("\n") == 1


def test_the_hash_of_weights_is_of_them_alone(sd1_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sd1_folder, tmp_path / "another name"))
    same = weights_fingerprint(copy)
    assert same == weights_fingerprint(sd1_folder)
    (copy / "scheduler" / "scheduler_config.json").write_text("{}")
    assert weights_fingerprint(copy) == same
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert weights_fingerprint(copy) != same
