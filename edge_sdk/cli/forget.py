"""`edge-sdk demo --unlearn`: the embedded model forgets one of its own faces, and an audit shows what it kept."""

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.cli.common import Progress
    from edge_sdk.unlearning.config import UnlearnConfig
    from edge_sdk.unlearning.denoiser import Denoiser

PROMPT = "a picture of a person"
PLACES = ("forget", "keep", "held_out")  # of the faces, below --output_dir
KEPT, HELD_OUT = 256, 64  # faces of the model's own: to train on, and for the audit
SAMPLES = 128  # free samples of each model
SETTINGS = {"prompt": PROMPT, "max_train_steps": 60, "learning_rate": 1e-3, "unlearn_weight": 3.0,
            "retain_batch": 32}  # fmt: skip


def forget(args: argparse.Namespace) -> int:
    """Draw faces, forget the first, measure; the page opens where someone is looking."""
    from edge_sdk.cli.audit import say_checks
    from edge_sdk.cli.common import Progress, quiet_libraries, require_torch, say_how_to_go_on
    from edge_sdk.cli.unlearn import goes_on, summary

    resume = goes_on(args.resume_from_checkpoint)
    quiet_libraries()
    require_torch("unlearning")
    from edge_sdk.pocket import PHOTOS
    from edge_sdk.run_folder import Cancelled
    from edge_sdk.unlearning.audit.audit import audit
    from edge_sdk.unlearning.audit.limits import Limits
    from edge_sdk.unlearning.config import UnlearnConfig

    folder, progress = Path(args.output_dir), Progress(args.quiet)
    config = UnlearnConfig.from_options(**SETTINGS, device=args.device, seed=args.seed)
    if resume and (folder / "unlearned" / "unlearn.json").exists():
        progress.say("the face is forgotten already; going on with the audit")
    else:
        try:
            record = train(folder, config, resume, progress)
        except Cancelled as cancelled:
            progress.close()
            return say_how_to_go_on(cancelled)
        progress.close()
        if not args.quiet:
            print(summary(record, str(folder / "unlearned")))
    try:
        found = audit(
            "pocket", str(folder / "unlearned" / "model"), folder / "forget", folder / "held_out", folder / "audit",
            Limits(), PHOTOS, count=SAMPLES, prompt=PROMPT, seed=config.seed, device=config.device, include_images=True,
            notify=progress.say,
        )  # fmt: skip
    except KeyboardInterrupt:
        return say_how_to_go_on(Cancelled("the audit is interrupted"))
    if sys.stdout.isatty():
        webbrowser.open((folder / "audit" / "audit.html").resolve().as_uri())
    return say_checks(found, str(folder / "audit"), args.quiet)


def train(folder: Path, config: "UnlearnConfig", resume: bool, progress: "Progress") -> dict[str, Any]:
    """Draw the faces and forget the first; returns what ``unlearn.json`` holds. Raises Cancelled if it was stopped."""
    from edge_sdk.cli.common import gentle_interrupt
    from edge_sdk.cli.unlearn import shown_by
    from edge_sdk.unlearning.denoiser import load_denoiser
    from edge_sdk.unlearning.unlearn import Sources, refuse_inside, unlearn, working_folder

    unlearned = (folder / "unlearned").resolve()
    working_folder(unlearned, resume)  # refused before anything is drawn
    denoiser = load_denoiser("pocket", device=config.device)
    refuse_inside(unlearned, denoiser.folder)
    make_places(folder)
    progress.say(f"drawing {1 + KEPT + HELD_OUT} faces with the embedded model; the first is to be forgotten")
    draw(denoiser, folder, config.seed)
    with gentle_interrupt() as stop:
        return unlearn(
            Sources("pocket", folder / "forget", folder / "keep"), folder / "unlearned", config,
            resume, notify=progress.say, progress=shown_by(progress, config.max_train_steps), stop=stop,
        )  # fmt: skip


def make_places(folder: Path) -> None:
    """Folders for the faces; raises EdgeSdkError where they cannot be made or written."""
    from edge_sdk.files import check_output_dir, disk_errors, make_folder

    for place in PLACES:
        with disk_errors(folder / place):
            make_folder(folder / place)
        check_output_dir(folder / place, run_files=())


def draw(denoiser: "Denoiser", folder: Path, seed: int) -> None:
    """Faces of the model's own into forget/, keep/ and held_out/ of a folder; the same seed draws the same."""
    import torch

    from edge_sdk.images import save_png, to_pil
    from edge_sdk.unlearning.sampling import sample
    from edge_sdk.zo.noise import Stream, normals

    noise = normals(seed, Stream.AUGMENTATION, 0, (1 + KEPT + HELD_OUT, *denoiser.shape))
    x0 = sample(denoiser, denoiser.module, torch.from_numpy(noise).to(denoiser.device), denoiser.condition(PROMPT))
    for i, one in enumerate(denoiser.decode(x0).cpu().numpy()):
        place = PLACES[0 if i == 0 else 1 if i <= KEPT else 2]
        save_png(to_pil(one), folder / place / f"{i:03d}.png")
