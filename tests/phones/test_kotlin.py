"""What is of Kotlin's command line alone: its words, and the photos that Java decodes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.phones.apps import BUNDLE, App
from tests.phones.learned import assert_pixels_are_pythons
from tests.phones.test_commands import assert_refused, id_of


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["personalize"], "--bundle is missing"),
        (["personalize", "--bundl", "x"], "--bundl is no flag"),
        (["verify", "--bundle"], "--bundle lacks its value"),
        (["generate", "--bundle", BUNDLE, "--prompt", "x", "--output", "x.png", "--num_images", 0], "num_images is 0"),
    ],
    ids=id_of,
)
def test_a_wrong_command_is_one_line(arguments: Sequence[object], part: str, kotlin: App) -> None:
    assert part in kotlin.refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--max_train_steps", "many"], "a number of steps or auto"),
        (["--max_train_steps", 0], "max_train_steps is 0"),
        (["--initializer_token", "two words"], "must be one word"),
        (["--train_data_dir", "nowhere"], "train_data_dir nowhere cannot be read"),
        (["--threads", 1000], "threads is 1000"),
    ],
    ids=id_of,
)
def test_a_wrong_setting_is_one_line_and_writes_nothing(
    arguments: Sequence[object], part: str, kotlin: App, tmp_path: Path
) -> None:
    assert_refused(kotlin, arguments, part, tmp_path)


@pytest.mark.parametrize("crop", [True, False], ids=["cropped", "squeezed"])
def test_photos_of_many_kinds_are_pythons_pixels(crop: bool, kotlin: App, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (21, 34, 3), dtype=np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (21, 34), dtype=np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "a_turned.png", exif=exif)
    rgba.save(folder / "b_clear.png")
    rgb.convert("L").save(folder / "c_grey.png")
    rgb.quantize(16).save(folder / "d_palette.png")
    Image.merge("LA", (rgb.convert("L"), alpha)).save(folder / "e_grey_clear.png")
    Image.fromarray(rng.integers(0, 65536, (20, 20), dtype=np.uint16)).save(folder / "f_deep.png")
    rgb.convert("1").save(folder / "g_black.png")
    rgb.save(folder / "h.bmp")
    rgb.save(folder / "i.tiff")
    assert_pixels_are_pythons(kotlin, folder, 9, tmp_path / "run", crop)
