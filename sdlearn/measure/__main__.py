"""``python -m sdlearn.measure {evaluate,grid,edits,race,few-steps} [--model FOLDER] ...``"""

from __future__ import annotations

import sys
from importlib import import_module

from sdlearn.training.options import parse

MEASUREMENTS = {
    "evaluate": ("EvaluateSettings", "evaluate"),
    "grid": ("GridSettings", "measure_grid"),
    "edits": ("EditsSettings", "measure_edits"),
    "race": ("RaceMeasurement", "measure_race"),
    "few-steps": ("FewStepsMeasured", "measure_few_steps"),
}


def main(argv: list[str]) -> int:
    """Run one measurement; 0 if it ended well."""
    names = ",".join(MEASUREMENTS)
    if not argv or argv[0] not in MEASUREMENTS:
        print(
            f"usage: python -m sdlearn.measure {{{names}}} [--model FOLDER] [--out FOLDER]; "
            "--help after a name lists its settings"
        )
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    settings_name, function = MEASUREMENTS[argv[0]]
    module = import_module(f"sdlearn.measure.{argv[0].replace('-', '_')}")
    program = f"python -m sdlearn.measure {argv[0]}"
    settings = parse(getattr(module, settings_name), argv[1:], program)
    try:
        settings.check()
        getattr(module, function)(settings)
    except KeyboardInterrupt:
        print("\nStopped; nothing of this measurement was written.", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
