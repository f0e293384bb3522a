"""Command-line options from a dataclass of settings: each field is one, ``--batch 32``."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from typing import Any


def parse(cls: type, argv: list[str], program: str) -> Any:
    """An instance of the dataclass ``cls`` from command-line arguments.

    A field that is True or False has two options, ``--resume`` and ``--no-resume``.
    """
    parser = argparse.ArgumentParser(
        prog=program, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for field in fields(cls):
        option = "--" + field.name.replace("_", "-")
        default = None if field.default is MISSING else field.default
        if field.type in ("bool", bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        else:
            kind = {"int": int, "float": float}.get(str(field.type).split(" | ")[0], str)
            parser.add_argument(option, type=kind, default=default)
    return cls(**vars(parser.parse_args(argv)))
