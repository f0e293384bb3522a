"""``python -m sdlearn.training {tokenizer,clip,vae,unet,judge,all,few-steps,race} ...``"""

from __future__ import annotations

import shlex
import sys
from importlib import import_module
from typing import Any

from sdlearn.training.options import parse

STAGES = {
    "tokenizer": "TokenizerSettings",
    "clip": "CLIPSettings",
    "vae": "VAESettings",
    "unet": "UNetSettings",
    "judge": "JudgeSettings",
}
# made from a whole model
MORE = {"few-steps": "FewStepsSettings", "race": "RaceSettings"}
EVERY_STAGE = STAGES | MORE


def module_of(stage: str) -> Any:
    """Where a stage lives."""
    return import_module(f"sdlearn.training.{stage.replace('-', '_')}")


def settings_for(stage: str, argv: list[str]) -> Any:
    """The settings of a stage from command-line arguments."""
    cls = getattr(module_of(stage), EVERY_STAGE[stage])
    return parse(cls, argv, f"python -m sdlearn.training {stage}")


def to_go_on(argv: list[str]) -> str:
    """The command that goes on with a training: the one that was given, with --resume."""
    options = [word for word in argv if word not in ("--resume", "--no-resume")]
    return shlex.join(["python", "-m", "sdlearn.training", *options, "--resume"])


def main(argv: list[str]) -> int:
    """Run one stage or all; 0 if it ended well."""
    if not argv or argv[0] not in [*EVERY_STAGE, "all"]:
        print(
            f"usage: python -m sdlearn.training {{{','.join([*STAGES, 'all', *MORE])}}} "
            "[--minutes M] [--out FOLDER] [--device D] [--resume]; --help after a stage lists its "
            "settings"
        )
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    stages = [*STAGES] if argv[0] == "all" else [argv[0]]
    for stage in stages:
        settings = settings_for(stage, argv[1:])
        try:
            getattr(module_of(stage), f"train_{stage.replace('-', '_')}")(settings)
        except KeyboardInterrupt:
            print(f"\nStopped. This goes on from the last checkpoint:\n{to_go_on(argv)}")
            return 130
        except (FileNotFoundError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        except (FloatingPointError, OSError) as error:
            print(f"{error}\nTo go on from the last checkpoint:\n{to_go_on(argv)}", file=sys.stderr)
            return 1
    if argv[0] == "all":
        out = shlex.quote(settings.out)
        print(f"To measure it: python -m sdlearn.measure evaluate --model {out} --out {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
