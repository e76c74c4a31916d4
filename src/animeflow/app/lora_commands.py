"""`animeflow lora`: a folder of pictures, or one of the words for LoRA files. Knows click; every command is a verb of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..model import registry

TRAIN = "DIR"  # what a folder means; no folder is likely to be called so

ABOUT = """Train a LoRA from a folder of pictures, or work on LoRA files.

\b
Three steps to a character:
  pip install .                  (in a checkout)
  animeflow doctor
  animeflow lora my_character --base models/stable-diffusion-3.5-medium

The folder holds pictures, each with its tags in NAME.txt or a sentence in NAME.caption beside it; without these the folder's name
is what you will prompt for. Everything else is chosen, shown with its reason, and asked about once.

\b
Examples:
  animeflow lora my_character --tiny               a rehearsal on the CPU with the small base that comes along
  animeflow lora my_character --base FOLDER -y     no question
  animeflow lora my_character --base FOLDER learn.rank=16 train.images=3000
  animeflow lora check my_lora.safetensors         whatever program wrote it
  animeflow lora convert my_lora.safetensors --to kohya
  animeflow lora merge a.safetensors b.safetensors=0.5 --base FOLDER --out merged
  animeflow lora resize my_lora.safetensors --rank 8
A folder that is called like one of the commands is written ./check.
"""

DIALECTS = ("kohya", "comfyui", "diffusers", "peft")
OVERRIDES = click.Argument(["overrides"], nargs=-1, metavar="[KEY=VALUE]...")


class FolderOrCommand(click.Group):
    """A first word that is no command is the folder of `train`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # The commands want a file after their name; without one a folder of that name is meant, where there is one.
        alone = bool(args) and Path(args[0]).is_dir() and all(a.startswith("-") or "=" in a for a in args[1:])
        if args and (args[0] not in self.commands or alone):
            args = [TRAIN, *args]
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Those of a folder, then the commands."""
        click.Command.format_options(self.commands[TRAIN], ctx, formatter)
        self.format_commands(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # An option first (`lora --tiny DIR`) is one of `train`, except the two that explain.
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = [TRAIN, *args]
        return super().parse_args(ctx, args)


def lora(execute: Callable[..., int]) -> click.Group:
    """The group; `execute(verb, overrides, debug=..., **options)` runs a verb and gives its exit code."""
    group = FolderOrCommand(
        "lora", help=ABOUT, short_help="Train a LoRA from a folder of pictures; check, convert, merge and resize LoRA files.",
        subcommand_metavar="DIR [OPTIONS] | COMMAND",
    )  # fmt: skip
    for name, about, params in _commands():
        group.add_command(_command(name, about, params, execute))
    return group


def _command(name: str, about: str, params: list[click.Parameter], execute: Callable[..., int]) -> click.Command:
    verb = "lora" if name == TRAIN else f"lora_{name}"

    def callback(debug: bool, overrides: tuple[str, ...] = (), **own: Any) -> None:
        sys.exit(execute(verb, overrides, debug=debug, **own))

    debug = click.Option(["--debug"], is_flag=True, help="Show the traceback of every error.")
    return click.Command(name, callback=callback, params=[*params, debug], help=about, hidden=name == TRAIN)


def _commands() -> list[tuple[str, str, list[click.Parameter]]]:
    file = click.Argument(["file"], metavar="FILE")
    base = click.Option(["--base"], metavar="PATH", help="The model it belongs to: a folder or file of any layout.")
    family = click.Option(
        ["--family"], metavar="NAME", help=f"Where the file alone does not tell: {' or '.join(registry.names())}."
    )
    out = click.Option(["--out"], metavar="PATH", help="Where to write; beside the file by default.")
    as_json = click.Option(["--json"], is_flag=True, help="Print JSON.")
    return [
        (TRAIN, "Train a LoRA from the pictures in DIR.", _train()),
        (
            "check",
            "Say whether a LoRA file is whole: every key belongs to a layer, every dialect gives back the same delta W, "
            "alpha, rank and dtype are sane, no number is NaN. Exit code 0 if so, else 2.",
            [file, base, family, as_json],
        ),
        (
            "convert",
            "Write a LoRA file for another program.",
            [
                file,
                click.Option(
                    ["--to"],
                    type=click.Choice(DIALECTS),
                    required=True,
                    help="kohya: ComfyUI and sd-scripts; "
                    "diffusers: diffusers and ComfyUI; comfyui: ComfyUI; peft: a folder for peft.",
                ),
                family,
                out,
                click.Option(
                    ["--dtype"], default=None, metavar="DTYPE", help="bf16, fp16 or fp32; as it is by default."
                ),
            ],
        ),
        (
            "merge",
            "Add LoRA files to a base, each with a weight (FILE=0.8), or to one file of several without a base.",
            _merge(base, family, out),
        ),
        (
            "resize",
            "Give a LoRA file another rank, by singular values; says what is lost.",
            [
                file,
                click.Option(["--rank"], type=int, help="The rank of every layer."),
                click.Option(["--keep"], type=float, help="Or: the share of each delta W's energy to keep, 0 to 1."),
                family,
                out,
            ],
        ),
    ]


def _merge(base: click.Parameter, family: click.Parameter, out: click.Parameter) -> list[click.Parameter]:
    return [
        click.Argument(["files"], nargs=-1, required=True, metavar="FILE[=WEIGHT]..."),
        base,
        family,
        out,
        click.Option(["--layout"], metavar="NAME", help="Of the merged model; that of the base's family by default."),
        click.Option(["--rank"], type=int, help="Of one file of several; the sum of their ranks by default."),
        click.Option(["--dtype"], default=None, metavar="DTYPE", help="bf16, fp16 or fp32."),
    ]


def _train() -> list[click.Parameter]:
    return [
        click.Argument(["directory"], metavar="DIR"),
        click.Option(["--base"], metavar="PATH", help="The model to add to: a diffusers folder or a single file."),
        click.Option(
            ["--family"], metavar="NAME", help=f"{' or '.join(registry.names())}; read from the base by default."
        ),
        click.Option(["--tiny"], is_flag=True, help="On a CPU, with the small base that comes along: a rehearsal."),
        click.Option(
            ["--preset"], metavar="NAME", help="An experiment of configs/ to begin with, such as sd35m_lora_prodigy."
        ),
        click.Option(["--trigger"], metavar="WORD", help="What you will prompt for; the folder's name by default."),
        click.Option(["--class", "kind"], metavar="WORD", help="What it is one of: 1girl, 1boy, style, ... [1girl]"),
        click.Option(["-y", "--yes"], is_flag=True, help="Do not ask."),
        click.Option(["--dry-run"], is_flag=True, help="Say what would be done and stop."),
        OVERRIDES,
    ]
