"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

POSITIVE = click.IntRange(min=1)
SEEDS = click.IntRange(min=-(2**63), max=2**63 - 1)  # what random generators take

trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Let a .pt2 run the code that it holds, and a .pt what it was made from; without, such are refused.",
)

cells_option = click.option(
    "--csv",
    "cells",
    required=True,
    type=click.Path(path_type=Path),
    help="Cells of NAS-Bench-201: columns arch and cifar10_test_acc_200ep.",
)
