"""`animeflow tags`, `captions` and `prompt`: groups of commands about words. Knows click; every command is a verb of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

OVERRIDES = click.Argument(["overrides"], nargs=-1, metavar="[KEY=VALUE]...")
Command = tuple[str, str, list[click.Parameter]]


def tags(execute: Callable[..., int]) -> click.Group:
    """`animeflow tags build|lint|ambiguous|show`."""
    about = "Build and look over a database of tags: names, aliases, translations, implications."
    database = click.Option(["--database"], metavar="FILE", required=True, help="Made by `animeflow tags build`.")
    as_json = click.Option(["--json"], is_flag=True, help="Print JSON.")
    propose = click.Option(
        ["--propose"], metavar="FILE", help="Write a table of those that can be settled, to look over."
    )
    tokenizer = click.Option(
        ["--tokenizer"], metavar="FOLDER", help="Of the text encoder; default: where the model is."
    )
    return _group(
        "tags",
        about,
        [
            (
                "build",
                "Read tag lists, aliases, implications, wikis and translations into one database; running twice changes nothing.",
                [
                    click.Argument(["files"], nargs=-1, required=True, metavar="FILE..."),
                    click.Option(["--out"], metavar="FILE", required=True, help="The database: made, or added to."),
                    click.Option(
                        ["--licence"], metavar="TEXT", help="Of these files, where they do not say it themselves."
                    ),
                ],
            ),
            (
                "lint",
                "List tags that a text encoder cannot read, and other faults: of the database, or of the set that settings name.",
                [database, tokenizer, as_json, OVERRIDES],
            ),
            ("ambiguous", "List words that mean several tags, by class.", [database, as_json, propose]),
            ("show", "Say all that is known of a word in any language.", [click.Argument(["word"]), database, as_json]),
        ],
        execute,
    )


def captions(execute: Callable[..., int]) -> click.Group:
    """`animeflow captions preview`."""
    tokenizer = click.Option(
        ["--tokenizer"],
        metavar="FOLDER",
        help="With a released model's tokenizers: count as it does, without its encoders.",
    )
    number = click.Option(["--n", "count"], type=int, default=20, show_default=True, help="How many pictures.")
    tokens = click.Option(["--tokens"], is_flag=True, help="Count tokens, however large the text encoders are.")
    return _group(
        "captions",
        "See captions as training will.",
        [
            (
                "preview",
                "Print captions of some pictures of the catalogue, a colour per section.",
                [number, tokens, tokenizer, OVERRIDES],
            )
        ],
        execute,
    )


def prompt(execute: Callable[..., int]) -> click.Group:
    """`animeflow prompt normalise`."""
    options: list[click.Parameter] = [
        click.Argument(["prompt"]),
        click.Option(
            ["--language"], metavar="CODE", default="auto", show_default=True, help="ja, zh-Hans, de, ... or auto."
        ),
        click.Option(["--json"], is_flag=True, help="Print JSON."),
        OVERRIDES,
    ]
    return _group(
        "prompt",
        "Read a prompt in any language as the tags that a model knows.",
        [("normalise", "Print the prompt in canonical tags, and what became of every part of it.", options)],
        execute,
    )


def _group(name: str, about: str, commands: list[Command], execute: Callable[..., int]) -> click.Group:
    group = click.Group(name, help=about, short_help=about)
    for word, text, params in commands:
        group.add_command(_command(f"{name}_{word}", word, text, params, execute))
    return group


def _command(
    verb: str, name: str, about: str, params: list[click.Parameter], execute: Callable[..., int]
) -> click.Command:
    def callback(debug: bool, overrides: tuple[str, ...] = (), **own: Any) -> None:
        sys.exit(execute(verb, overrides, debug=debug, **own))

    debug = click.Option(["--debug"], is_flag=True, help="Show the traceback of every error.")
    return click.Command(name, callback=callback, params=[*params, debug], help=about)
