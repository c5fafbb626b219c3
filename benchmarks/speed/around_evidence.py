"""What is lost where less is computed around the steps: the floor of mu on noise, and previews of few denoising steps.

    python -m benchmarks.speed.around_evidence --wide benchmarks/work/wide

Floors at the initializer's word on photos and as they are measured, by 64 directions (or all there are) and by those of
a run, several seeds each. Pictures of the embedded model before and after learning, of 25 denoising steps and of fewer.
"""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import machine, markdown, say
from edge_sdk import Personalizer, mu_floor, pocket
from edge_sdk.config import PersonalizeConfig
from edge_sdk.images import contact_sheet, save_png, to_pil
from edge_sdk.preview import PREVIEW_STEPS, before_and_after
from edge_sdk.system.files import write_json

MANY, SEEDS = 64, 8
STEPS = (25, 16, 12, 10, 8, 6)


def floors(model: str, preset: str) -> dict[str, Any]:
    """Floors of a model in PyTorch, int8 with 16-bit activations, in directions of a preset."""
    personalizer = Personalizer.from_pretrained(model)
    config = PersonalizeConfig.from_options(initializer_token="person", preset=preset)
    prepared = personalizer.prepare(pocket.PHOTOS, config)
    objective, std = prepared.objective, prepared.vocabulary_std
    latents = mu_floor.stand_in_latents(objective.latents_shape)
    noise = objective.on_latents(latents, prepared.own_ids, np.zeros((1, 6), np.float32))
    word = mu_floor.stand_in_word(prepared.initial.shape[1], std)
    rows = config.rows(objective.latents_shape)
    found: dict[str, Any] = {"zo_mu": prepared.zo.zo_mu}
    for place, where, token in (("photos", objective, prepared.initial / prepared.scale), ("noise", noise, word)):
        few = [
            mu_floor.measure(where, token, prepared.zo, std, rows, prepared.basis, seed).mu_min for seed in range(SEEDS)
        ]
        many = mu_floor.measure(where, token, prepared.zo, std, rows, prepared.basis, count=MANY).mu_min
        found[place] = {"many": many, "few": few}
    return found


def previews(folder: Path) -> dict[str, list[float]]:
    """Differences from pictures of 25 steps, root mean square in levels of 255, before and after learning."""
    personalizer = Personalizer.from_pretrained("pocket")
    for _ in personalizer.fit(pocket.PHOTOS):
        pass
    pictures = {steps: before_and_after(personalizer, steps, keep_objective=True) for steps in STEPS}
    rows = [
        (f"{steps} steps, {when}", [to_pil(one) for one in drawn])
        for i, when in enumerate(("before", "after"))
        for steps, sets in pictures.items()
        for drawn in [sets[i]]
    ]
    save_png(contact_sheet(rows), folder)
    levels = {steps: [each.astype(np.float64) for each in sets] for steps, sets in pictures.items()}
    return {
        str(steps): [
            float(np.sqrt(np.mean((one - best) ** 2))) for one, best in zip(sets, levels[STEPS[0]], strict=True)
        ]
        for steps, sets in levels.items()
    }


def table(record: dict[str, Any]) -> str:
    rows = []
    for name, found in record["floors"].items():
        cells = [f"{found['zo_mu']:.1e}"]
        for place in ("photos", "noise"):
            few = found[place]["few"]
            cells += [f"{found[place]['many']:.1e}", f"{np.median(few):.1e} ({min(few):.1e}-{max(few):.1e})"]
        rows.append([name, *cells])
    few = f"{mu_floor.DIRECTIONS} directions, {SEEDS} seeds: median (range)"
    head = ["model, preset", "mu", f"photos, {MANY} directions", few, f"noise, {MANY} directions", few]
    pictures = [[steps, *(f"{one:.1f}" for one in levels)] for steps, levels in record["previews"].items()]
    return (
        markdown(head, rows)
        + "\n\n"
        + markdown(["denoising steps", "difference from 25, of 255: before learning", "after"], pictures)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wide", type=Path, required=True, help="a model whose tokens have 768 numbers")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/around_evidence.json"))
    args = parser.parse_args()
    record: dict[str, Any] = {
        "command": "python -m benchmarks.speed.around_evidence --wide benchmarks/work/wide",
        "date": date.today().isoformat(),
        "machine": machine(),
        "preview_steps": PREVIEW_STEPS,
        "floors": {},
    }
    for name, model in (("embedded", "pocket"), ("wide", str(args.wide))):
        for preset in ("fast", "paper"):
            record["floors"][f"{name}, {preset}"] = floors(model, preset)
    record["previews"] = previews(args.output.with_suffix(".png"))
    write_json(args.output, record)
    say(table(record), record["command"], args.output)


if __name__ == "__main__":
    main()
