"""What the verbs about a set take besides settings: unpack, dedup, annotate, filter, coverage, decide, certify. Knows click."""

from __future__ import annotations

from collections.abc import Callable

import click

Params = list[click.Parameter]


def options(verb: str, dry_run: click.Option) -> Params:
    """Of one of VERBS."""
    return VERBS[verb](dry_run)


def _unpack(dry_run: click.Option) -> Params:
    licence = "What you know of the pictures' licence; kept with each."
    return [
        click.Argument(["files"], nargs=-1, required=True, metavar="FILE..."),
        click.Option(["--into"], metavar="DIR", required=True, help="Where the pictures go; made if missing."),
        click.Option(["--panels"], is_flag=True, help="Cut comic pages into their panels."),
        click.Option(["--all-frames"], is_flag=True, help="Of an ugoira, all frames instead of the first."),
        click.Option(["--licence"], metavar="TEXT", help=licence),
        dry_run,
    ]


def _dedup(dry_run: click.Option) -> Params:
    return [click.Option(["--sheet"], metavar="FILE.png", help="Draw the groups, best picture first."), dry_run]


def _annotate(dry_run: click.Option) -> Params:
    return [click.Argument(["kind"], type=click.Choice(["tagger", "detector", "masks"])), dry_run]


def _filter(_: click.Option) -> Params:
    return [
        click.Option(["--why"], metavar="SHA256|PATH", help="Say of one picture which rule decided."),
        _json(),
        click.Option(["--dry-run"], is_flag=True, help="What it does anyway: nothing is written."),
    ]


def _coverage(_: click.Option) -> Params:
    by, against = (
        "character, copyright, artist, general or meta.",
        "name,count: what exists elsewhere, for a share of it.",
    )
    return [
        click.Option(["--by"], default="character", show_default=True, help=by),
        click.Option(["--min", "least"], type=int, default=200, show_default=True, help="Fewer pictures are short."),
        click.Option(["--against"], metavar="FILE.csv", help=against),
        click.Option(["--top"], type=click.IntRange(1), help="Only the so many most popular names of that file."),
        _json(),
    ]


def _decide(dry_run: click.Option) -> Params:
    reviewer = "Who decides; else the name that you are logged in with."
    return [
        click.Option(["--log", "logs"], metavar="FILE.jsonl", multiple=True, help="Another person's log, to join."),
        click.Option(["--keep"], metavar="SHA256|PATH", multiple=True, help="It is in, as far as people are asked."),
        click.Option(["--reject"], metavar="SHA256|PATH", multiple=True, help="It is out; its file stays."),
        click.Option(["--flag"], metavar="SHA256|PATH", multiple=True, help="Somebody should look again."),
        click.Option(
            ["--origin"], nargs=2, metavar="ORIGIN SHA256|PATH", multiple=True, help="human, ai, ai_assisted, ..."
        ),
        click.Option(["--reason"], metavar="WORD", default="", help="Why: ai, watermark, lowres, crop, ..."),
        click.Option(["--reviewer"], metavar="NAME", help=reviewer),
        click.Option(["--undo"], type=int, metavar="SEQ", help="Take one decision back, by its number."),
        dry_run,
    ]


def _certify(_: click.Option) -> Params:
    return [_json()]


def _json() -> click.Option:
    return click.Option(["--json"], is_flag=True, help="Print JSON.")


VERBS: dict[str, Callable[[click.Option], Params]] = {
    "unpack": _unpack,
    "dedup": _dedup,
    "annotate": _annotate,
    "filter": _filter,
    "coverage": _coverage,
    "decide": _decide,
    "certify": _certify,
}
