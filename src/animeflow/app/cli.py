"""The command line: one verb, one function. Imports no torch before a verb runs, so that `--help` answers at once."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..core.errors import AnimeflowError, ConfigError
from ..model import registry
from . import set_commands, word_commands
from .lora_commands import lora

VERBS = {
    "demo": "The whole path on drawn pictures, from nothing to a report page. Start here.",
    "doctor": "Look over this machine: torch, GPU, memory, weights, a few training steps; say what to mend and how.",
    "lora": "Train a LoRA from a folder of pictures; check, convert, merge and resize LoRA files.",
    "toonworld": "Draw pictures with known truth into a folder.",
    "unpack": "Take the pictures out of archives, videos and comic pages into a folder that `catalogue` reads.",
    "catalogue": "Read a folder, a booru dump or sidecars into a catalogue; list what was rejected and why.",
    "dedup": "Find the same drawing in several files, and versions of one drawing; propose the best of each.",
    "annotate": "Let taggers and detectors of yours say what they see; their scores are kept beside the catalogue.",
    "filter": "Say which pictures the set will have, rule by rule, with counts; writes nothing.",
    "coverage": "Count pictures per character, series and artist; name those that are short.",
    "decide": "Write people's decisions into the catalogue's log: keep, reject, flag, undo; join several people's logs.",
    "certify": "Print what is known of where the pictures are from, for the model card; fail where evidence is missing.",
    "tags": "Build and look over a database of tags: names, aliases, translations, implications.",
    "captions": "See captions as training will.",
    "prompt": "Read a prompt in any language as the tags that a model knows.",
    "shard": "Cut the catalogue's pictures into buckets and write WebDataset shards.",
    "codec": "Train the small codec that needs no download, on the pictures of the shards.",
    "cache": "Encode pictures and captions once; only what changed is encoded again.",
    "plan": "Say what a run would do: parameters, buckets, effective batch, steps, memory. Runs nothing.",
    "train": "Train, or go on from the newest checkpoint.",
    "ema": "Make the averaged weights of another width out of a run's snapshots, after it.",
    "sample": "Make pictures from a run, an export or a diffusers folder.",
    "export": "Write files that ComfyUI and diffusers load, and a model card.",
    "report": "Write one page that shows a run: settings, curves, pictures, adherence, cost.",
    "show": "Say in words what a file or folder is: a LoRA, a checkpoint, an export, a base, a shard, a catalogue.",
    "import": "Read kohya's dataset and config TOML, and write the words of the same run here.",
    "oracle": "Train the small network that reads drawn attributes back, and test it.",
    "bench": "Measure one part against a limit or a peer, both in one run, and print JSON.",
}
PLAIN = ("show", "import", "unpack")  # verbs that take no settings
MODULES = {"import": "import_kohya"}  # a word of Python's own
BENCHES = ("reader", "step", "encode", "images", "screen")

EPILOG = """\b
The path:  toonworld -> catalogue -> shard -> codec -> cache -> train -> export -> sample -> report
The set:   unpack -> catalogue -> dedup -> annotate -> decide -> filter -> certify -> shard
Settings:  every verb takes KEY=VALUE words over the files in configs/, for example
             animeflow train experiment=toonworld_tiny optim.lr=2e-4 train.images=5000
           @FILE stands for the words of a file, one a line
See all:   animeflow plan experiment=toonworld_tiny
Many GPUs: accelerate launch scripts/train.py experiment=nekofantasia_0_1
"""


def execute(
    verb: str,
    overrides: Sequence[str],
    *,
    debug: bool = False,
    **options: Any,
) -> int:
    """Run one verb with its own options and turn errors into exit codes: 0 done, 2 something the user can mend, 1 a bug (with its
    traceback) or a set that `certify` does not vouch for, 75 stopped by a signal with all saved (sysexits' EX_TEMPFAIL: start it
    again and it goes on)."""
    from ..core import log

    log.setup()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading a part is told by our own lines
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # every model is a path here; a library must not go and look for one
    logging.getLogger("bitsandbytes").setLevel(
        logging.ERROR
    )  # peft imports it wherever it is, and it tells of kernels it lacks
    try:
        module = importlib.import_module(f"animeflow.app.verbs.{MODULES.get(verb, verb)}")
        code = module.run(words(overrides), **options)
    except AnimeflowError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"error: {error}", err=True)
        return 2
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from the last checkpoint", err=True)
        return 130
    return int(code or 0)


def words(overrides: Sequence[str]) -> list[str]:
    """The words of a command line, with those of `@FILE` in its place: one a line, `#` begins a comment line.

    Raises:
        ConfigError: there is no such file.
    """
    found: list[str] = []
    for word in overrides:
        if not word.startswith("@"):
            found.append(word)
            continue
        path = Path(word[1:])
        if not path.is_file():
            raise ConfigError(f"there is no file {path}", where=word, do="give a file with one KEY=VALUE a line")
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        found += [line for line in lines if line and not line.startswith("#")]
    return found


class InOrder(click.Group):
    """Lists the verbs in the order of the path, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=InOrder,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="animeflow")
def main() -> None:
    """Train rectified-flow anime models: from pictures to a file that ComfyUI and diffusers load."""


def _command(verb: str, about: str) -> click.Command:
    def callback(debug: bool, overrides: tuple[str, ...] = (), **own: Any) -> None:
        sys.exit(execute(verb, overrides, debug=debug, **own))

    params: list[click.Parameter] = [
        *_options(verb),
        *([] if verb in PLAIN else [click.Argument(["overrides"], nargs=-1, metavar="[KEY=VALUE]...")]),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of every error."),
    ]
    return click.Command(verb, callback=callback, params=params, help=about + _examples(verb), short_help=about)


def _options(verb: str) -> list[click.Parameter]:
    """What a verb takes besides settings."""
    if verb == "demo":
        about_fast = "A minute-long version that proves the path, not the learning."
        about_family = f"The family that learns: {', '.join(registry.names())}."
        return [
            click.Option(["--fast"], is_flag=True, help=about_fast),
            click.Option(["--family"], metavar="NAME", help=about_family),
        ]
    if verb == "bench":
        against = "step: stock (diffusers' module as it is, autocast, eager) or bf16 (of an fp8 run)."
        return [
            click.Argument(["kind"], type=click.Choice(BENCHES)),
            click.Option(["--against"], type=click.Choice(["stock", "bf16"]), help=against),
            click.Option(["--rounds"], type=int, default=5, show_default=True, help="Rounds of A, B, A, B, ..."),
            click.Option(["--out"], metavar="FILE", help="Write the JSON there too."),
        ]
    dry_run = click.Option(["--dry-run"], is_flag=True, help="Say what would be done and stop.")
    if verb == "show":
        return [
            click.Argument(["path"], metavar="FILE"),
            click.Option(["--json"], is_flag=True, help="Print JSON."),
        ]
    if verb == "doctor":
        about = "A model to look over, too: a folder or file."
        return [
            click.Option(["--json"], is_flag=True, help="Print JSON."),
            click.Option(["--base"], metavar="PATH", help=about),
        ]
    if verb == "import":
        out = click.Option(["--out"], metavar="FILE", help="Where to write the words; NAME.words by default.")
        return [
            click.Argument(["files"], nargs=-1, required=True, metavar="FILE.toml..."),
            out,
            click.Option(["--base"], metavar="PATH", help="The model, in place of the one that the file names."),
        ]
    if verb in set_commands.VERBS:
        return set_commands.options(verb, dry_run)
    if verb == "ema":
        about = "Width of the average as a share of the run: 0.01 to 0.25."
        at = "After so many images of the run; at its end by default."
        return [
            click.Option(["--sigma-rel"], type=float, required=True, help=about),
            click.Option(["--images"], type=int, help=at),
            dry_run,
        ]
    if verb == "plan":
        measure = "Run a few steps at full size on this machine and use their speed."
        return [click.Option(["--measure"], is_flag=True, help=measure), dry_run]
    return [dry_run]


def _examples(verb: str) -> str:
    examples = {
        "demo": ["animeflow demo", "animeflow demo --fast", "animeflow demo name=mine train.images=40000"],
        "toonworld": ["animeflow toonworld toonworld.count=500 toonworld.folder=drawn"],
        "catalogue": [
            "animeflow catalogue experiment=pictures_tiny catalogue.root=my_pictures",
            "animeflow catalogue name=mine catalogue=danbooru catalogue.root=files catalogue.posts=posts.jsonl",
        ],
        "unpack": ["animeflow unpack game.rpa comic.zip --into pictures", "animeflow unpack film.mkv --into frames"],
        "dedup": ["animeflow dedup name=mine", "animeflow dedup name=mine --sheet groups.png"],
        "annotate": ["animeflow annotate tagger name=mine annotate.tagger.path=models/my_tagger"],
        "filter": ["animeflow filter name=mine curate=careful", "animeflow filter name=mine --why pictures/17.png"],
        "coverage": ["animeflow coverage name=mine --by character --min 200"],
        "decide": [
            "animeflow decide name=mine --reject pictures/17.png --reason watermark --reviewer ana",
            "animeflow decide name=mine --log ben.jsonl",
        ],
        "certify": ["animeflow certify name=mine curate=careful"],
        "shard": ["animeflow shard experiment=pictures_tiny catalogue.root=my_pictures"],
        "codec": ["animeflow codec experiment=toonworld_tiny"],
        "cache": ["animeflow cache experiment=pictures_tiny", "animeflow cache --dry-run experiment=pictures_tiny"],
        "plan": ["animeflow plan experiment=nekofantasia_0_1"],
        "train": [
            "animeflow train experiment=pictures_tiny",
            "accelerate launch scripts/train.py experiment=nekofantasia_0_1",
        ],
        "sample": [
            "animeflow sample name=toonworld 'sample.prompts=[\"1girl, blue hair, smile, beach\"]'",
            "animeflow sample sample.source=path/to/diffusers_folder sample.solver=dopri5",
        ],
        "export": ["animeflow export name=toonworld export.dtype=bf16"],
        "report": ["animeflow report name=toonworld"],
        "oracle": ["animeflow oracle"],
        "doctor": ["animeflow doctor", "animeflow doctor --base models/stable-diffusion-3.5-medium --json"],
        "show": ["animeflow show my_lora.safetensors", "animeflow show runs/toonworld"],
        "import": [
            "animeflow import dataset.toml config.toml --out mine.words",
            "animeflow plan @mine.words",
        ],
        "ema": [
            "animeflow ema name=toonworld --sigma-rel 0.07",
            "animeflow ema name=my_lora --sigma-rel 0.1 --images 1200",
        ],
        "bench": [
            "animeflow bench reader",
            "animeflow bench step experiment=nekofantasia_0_1 --against stock --out step.json",
        ],
    }
    lines = "\n".join(f"  {line}" for line in examples[verb])
    return f"\n\n\b\nExamples:\n{lines}"


GROUPS = {"lora": lora, "tags": word_commands.tags, "captions": word_commands.captions, "prompt": word_commands.prompt}
for _verb, _about in VERBS.items():
    main.add_command(GROUPS[_verb](execute) if _verb in GROUPS else _command(_verb, _about))

if __name__ == "__main__":
    main()
