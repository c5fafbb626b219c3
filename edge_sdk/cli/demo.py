"""`edge-sdk demo`: the main job on the embedded model and the photos that come with it."""

import argparse

HELP = "learn a bundled subject on the embedded model and draw it, before and after"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_common, add_device, add_resume

    parser.add_argument("--output_dir", metavar="DIR", help="a new folder for the results; with --web for the bundle, "
                        "which is otherwise kept for this once")  # fmt: skip
    parser.add_argument("--web", action="store_true", help="in a browser instead: serve a page on this computer")
    parser.add_argument("--unlearn", action="store_true", help="instead: the embedded model forgets one of its own "
                        "faces, and a page shows what it kept")  # fmt: skip
    parser.add_argument("--bundle", metavar="DIR", help="with --web: a folder that edge-sdk export wrote")
    parser.add_argument("--port", type=int, metavar="N", help="with --web (default: any that is free)")
    add_resume(parser)
    add_device(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.errors import EdgeSdkError

    if args.web and args.unlearn:
        raise EdgeSdkError("both web and unlearn are given; give one of them")
    if args.web:
        from edge_sdk.cli.web import serve

        return serve(args)
    for name in ("bundle", "port"):
        if getattr(args, name) is not None:
            raise EdgeSdkError(f"--{name} is for the page only; add --web")
    if args.output_dir is None:
        raise EdgeSdkError("output_dir is not given; give --output_dir, a new folder for the results, or --web")
    if args.unlearn:
        from edge_sdk.cli.forget import forget

        return forget(args)
    return learn(args)


def learn(args: argparse.Namespace) -> int:
    """Without a browser."""
    from pathlib import Path

    from edge_sdk.cli.common import Progress, gentle_interrupt, quiet_libraries, say_how_to_go_on
    from edge_sdk.cli.main import DONE
    from edge_sdk.cli.personalize import summary
    from edge_sdk.system.memory import leave_out_tracing

    quiet_libraries()
    leave_out_tracing()
    import edge_sdk.pocket
    from edge_sdk.generation import generate
    from edge_sdk.images import contact_sheet, save_png
    from edge_sdk.run_folder import Cancelled, run_personalization

    progress = Progress(args.quiet)
    progress.say("learning a person that the embedded model has never seen, from 5 pictures, on int8 weights")
    with gentle_interrupt() as stop:
        try:
            record = run_personalization(
                edge_sdk.pocket.PHOTOS,
                args.output_dir,
                "pocket",
                notify=progress.say,
                on_step=progress,
                stop=stop,
                resume_from_checkpoint=args.resume_from_checkpoint,
                command="demo",
                device=args.device,
                seed=args.seed,
            )
        except Cancelled as cancelled:
            progress.close()
            return say_how_to_go_on(cancelled)
    progress.close()
    folder = Path(args.output_dir)
    prompts = [f"a picture of <subject> on a {color} background" for color in ("white", "green", "orange", "purple")]
    pictures = [
        generate(
            prompt,
            "pocket",
            [folder / "learned_embeds.safetensors"],
            num_images=5,
            device=args.device,
            seed=args.seed or 0,
        )
        for prompt in prompts
    ]
    save_png(contact_sheet(list(zip(prompts, pictures, strict=True))), folder / "prompts.png")
    if not args.quiet:
        print(summary(record, args.output_dir))
        print(
            f"wrote {folder}/preview.png (photos, before, after) and {folder}/prompts.png (the subject in four prompts)"
        )
    return DONE
