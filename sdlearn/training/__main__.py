"""``python -m sdlearn.training {tokenizer,clip,vae,decoder,unet,judge,evaluate,all} [--minutes M] [--device D] [--resume] ...``"""

from __future__ import annotations

import argparse
import sys
from dataclasses import MISSING, fields
from importlib import import_module

STAGES = {
    "tokenizer": "TokenizerSettings",
    "clip": "CLIPSettings",
    "vae": "VAESettings",
    "decoder": "DecoderSettings",
    "unet": "UNetSettings",
    "judge": "JudgeSettings",
    "evaluate": "EvaluateSettings",
    "edits": "EditsSettings",
}


def settings_for(stage: str, argv: list[str], shared: argparse.ArgumentParser | None = None):
    """Each field of a stage's dataclass is an option: ``--batch 32``, ``--resume``."""
    cls = getattr(import_module(f"sdlearn.training.{stage}"), STAGES[stage])
    parser = argparse.ArgumentParser(
        prog=f"python -m sdlearn.training {stage}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for field in fields(cls):
        option = "--" + field.name.replace("_", "-")
        if field.type in ("bool", bool):
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=field.default
            )
        else:
            kind = {"int": int, "float": float}.get(str(field.type), str)
            parser.add_argument(
                option, type=kind, default=None if field.default is MISSING else field.default
            )
    return cls(**vars(parser.parse_args(argv)))


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in [*STAGES, "all"]:
        print(
            f"usage: python -m sdlearn.training {{{','.join([*STAGES, 'all'])}}} [--minutes M] [--device D] [--resume]; --help after a stage lists its settings"
        )
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    stages = (
        ["tokenizer", "clip", "vae", "unet", "judge", "evaluate", "edits"]
        if argv[0] == "all"
        else [argv[0]]
    )
    for stage in stages:
        settings = settings_for(stage, argv[1:])
        try:
            import_module(f"sdlearn.training.{stage}").train(settings)
        except KeyboardInterrupt:
            print(
                f"\nStopped. `python -m sdlearn.training {stage} --resume` goes on from the last checkpoint in {settings.work}/{stage}."
            )
            return 130
        except (FileNotFoundError, FloatingPointError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
