"""Golden vectors of pictures: photos on their way in, sampling on the way out, and the file of learned vectors."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_sdk.diffusion.ddim import Ddim
from edge_sdk.embedding import LearnedEmbedding, save_embedding
from edge_sdk.images import _square, _to_array, to_pil
from edge_sdk.picture_file import decode

# PNG files: size as stored, mode, EXIF orientation.
PHOTOS: dict[str, tuple[tuple[int, int], str, int]] = {
    "photo_wide.png": ((29, 18), "RGB", 1),
    "photo_turned.png": ((12, 21), "RGB", 6),
    "photo_clear.png": ((16, 16), "RGBA", 1),
    "photo_grey.png": ((9, 14), "L", 1),
}
SIDES = (8, 16, 40)
ORIENTATION = 0x0112  # EXIF's tag


def write_photo(path: Path) -> None:
    """One of the PNG files, by its name."""
    (width, height), mode, orientation = PHOTOS[path.name]
    rng = np.random.default_rng(len(path.name))
    channels = len(mode) if mode != "L" else 1
    values = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    exif = Image.Exif()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    Image.fromarray(values.squeeze(2) if channels == 1 else values).save(path, exif=exif)


def photos(folder: Path) -> dict[str, Any]:
    """photos.json, of the PNG files in a folder."""
    return {
        "photos": [_photo(folder / name) for name in PHOTOS],
        "bytes_to_float": _to_array(Image.fromarray(np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)[:, None]))[
            0, :, 0
        ].tolist(),
        "float_to_byte": [
            {"value": float(value), "byte": int(np.asarray(to_pil(np.full((3, 1, 1), value, np.float32)))[0, 0, 0])}
            for value in np.float32([-7, -1, -0.99, -0.5, 0, 0.001, 0.5, 0.99, 1, 7, *(2 * np.arange(5) / 255 - 1)])
        ],
    }


def _photo(path: Path) -> dict[str, Any]:
    upright = decode(io.BytesIO(path.read_bytes()), min(SIDES)).image
    side = min(upright.size)
    (stored, mode, orientation) = PHOTOS[path.name]
    sides = sorted({*SIDES, side})
    return {
        "file": path.name,
        "mode": mode,
        "orientation": orientation,
        "stored_size": list(stored),
        "size": list(upright.size),
        "rgb": _hex(upright),
        "square": {"left": (upright.width - side) // 2, "top": (upright.height - side) // 2, "side": side},
        "resized": [{"side": to, "filter": _filter(side, to), "rgb": _hex(_square(upright, to, True))} for to in sides],
        "squeezed": [
            {"side": to, "filter": _filter(side, to), "rgb": _hex(_square(upright, to, False))} for to in (8,)
        ],
    }


def _filter(side: int, to: int) -> str:
    return "none" if side == to else "lanczos" if side > to else "bicubic"


def _hex(image: Image.Image) -> str:
    """RGB bytes, row by row."""
    return image.tobytes().hex()


# sampling
TIMESTEPS = 20  # of the small schedule
A = np.sqrt(np.cumprod(1 - np.linspace(1e-3, 0.3, TIMESTEPS))).astype(np.float32)
B = np.sqrt(1 - A.astype(np.float64) ** 2).astype(np.float32)
FLOW = np.linspace(0, 1, TIMESTEPS + 1)[1:].astype(np.float32)  # b of a flow; a = 1 - b


def sampling() -> dict[str, Any]:
    """ddim.json."""
    return {
        "timesteps": [
            {
                "num_train_timesteps": total,
                "timestep_spacing": spacing,
                "steps_offset": offset,
                "steps": steps,
                "timesteps": Ddim(total, timestep_spacing=spacing, steps_offset=offset).timesteps(steps),
            }
            for spacing in ("leading", "trailing", "linspace")
            for total, offset, counts in ((1000, 1, (1, 2, 7, 25, 30, 999)), (20, 0, (3, 20)))
            for steps in counts
        ],
        "most_steps": [
            {"num_train_timesteps": 1000, "steps_offset": offset, "most": Ddim(1000, steps_offset=offset).max_steps}
            for offset in (0, 1)
        ],
        "num_train_timesteps": TIMESTEPS,
        "a": A.tolist(),
        "b": B.tolist(),
        "flow_a": (1 - FLOW).tolist(),
        "flow_b": FLOW.tolist(),
        "steps": [_step(*case) for case in STEPS],
        "guidance": _guidance(),
        "loop": _loop(),
    }


STEPS = [
    (kind, timestep, steps, clip, to_one)
    for kind in ("epsilon", "v_prediction", "flow")
    for timestep, steps, clip, to_one in (
        (16, 5, None, True),
        (1, 5, None, True),
        (1, 5, None, False),
        (11, 10, 0.75, False),
        (0, 20, 1.0, True),
    )
]


def _step(kind: str, timestep: int, steps: int, clip: float | None, to_one: bool) -> dict[str, Any]:
    rng = np.random.default_rng(timestep)
    predicted, latents = rng.standard_normal((2, 6)).astype(np.float32)
    sampler = Ddim(
        TIMESTEPS, kind, clip_sample=clip is not None, clip_sample_range=clip or 1.0, set_alpha_to_one=to_one
    )
    tables = (1 - FLOW, FLOW) if kind == "flow" else (A, B)
    return {
        "prediction_type": kind,
        "timestep": timestep,
        "steps": steps,
        "clip_sample": sampler.clip_sample,
        "clip_sample_range": sampler.clip_sample_range,
        "set_alpha_to_one": to_one,
        "predicted": predicted.tolist(),
        "latents": latents.tolist(),
        "before": sampler.ddim_step(predicted, timestep, steps, latents, tables).tolist(),
    }


def _guidance() -> dict[str, Any]:
    without, with_prompt = np.random.default_rng(9).standard_normal((2, 6)).astype(np.float32)
    guided = without + np.float32(4.0) * (with_prompt - without)
    return {
        "scale": 4.0,
        "without": without.tolist(),
        "with_prompt": with_prompt.tolist(),
        "guided": guided.tolist(),
    }


def _loop() -> dict[str, Any]:
    """A whole run on a denoiser that predicts 0.3 z + t / 100."""
    sampler = replace(Ddim(TIMESTEPS), steps_offset=1, set_alpha_to_one=False)
    latents = start = np.random.default_rng(4).standard_normal(6).astype(np.float32)
    for t in sampler.timesteps(5):
        predicted = np.float32(0.3) * latents + np.float32(t / 100)
        latents = sampler.ddim_step(predicted, t, 5, latents, (A, B))
    return {
        "denoiser": "predicted = 0.3 z + t / 100, in float32",
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "steps": 5,
        "noise": start.tolist(),
        "latents": latents.tolist(),
    }


# the learned file
LEARNED = {
    "learned_embeds.safetensors": ("<m\u00fcg>", (6,)),
    "learned_embeds_xl.safetensors": ("<m\u00fcg>", (2, 4)),
}
METADATA = {"steps": "7", "preset": "fast", "seed": "0", "initializer_token": "mug"}


def _embedding(name: str) -> LearnedEmbedding:
    token, widths = LEARNED[name]
    vectors = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    return LearnedEmbedding(token, vectors, METADATA | {"placeholder_token": token}, widths)


def learned() -> dict[str, Any]:
    """learned_embeds.json."""
    return {
        "files": [
            {
                "file": name,
                "token": one.token,
                "encoder_dims": list(one.widths),
                "metadata": one.metadata,
                "vectors": one.vectors.tolist(),
            }
            for name in LEARNED
            for one in [_embedding(name)]
        ]
    }


def write_learned(path: Path) -> None:
    """One of the files of learned vectors, by its name."""
    save_embedding(path, _embedding(path.name))
