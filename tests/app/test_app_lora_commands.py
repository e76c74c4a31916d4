"""`animeflow lora`: a first word is a folder or a command, whatever the folder is called; `@FILE` stands for the words in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from animeflow.app.cli import words
from animeflow.app.lora_commands import lora
from animeflow.core.errors import ConfigError


def asked(*line: str) -> tuple[str, dict]:
    """The verb that a command line runs, and its options."""
    seen: list[tuple[str, dict]] = []

    def execute(verb, overrides, *, debug=False, **options) -> int:
        seen.append((verb, {"words": list(overrides), **options}))
        return 0

    result = CliRunner().invoke(lora(execute), list(line))
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.mark.parametrize("line", [["nova", "--tiny", "a=b"], ["--tiny", "nova", "a=b"], ["nova", "a=b", "--tiny"]])
def test_a_folder_comes_first_or_after_its_options(line: list[str]) -> None:
    verb, options = asked(*line)
    assert (verb, options["directory"], options["tiny"], options["words"]) == ("lora", "nova", True, ["a=b"])


@pytest.mark.parametrize("name", ["train", "check", "merge"])
def test_a_folder_may_be_called_like_a_command(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert asked(name, "--tiny", "-y", "learn.rank=4")[1]["directory"] == name
    assert asked(f"./{name}")[1]["directory"] == f"./{name}"


def test_a_command_is_one_where_it_has_its_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "check").mkdir()
    assert asked("check", "some.safetensors") == ("lora_check", {
        "words": [], "file": "some.safetensors", "base": None, "family": None, "json": False,
    })  # fmt: skip


def test_words_of_a_file_stand_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.words"
    file.write_text("# from somewhere\nexperiment=toonworld_tiny\n\n  name='a b'  \n")
    assert words(["x=1", f"@{file}", "y=2"]) == ["x=1", "experiment=toonworld_tiny", "name='a b'", "y=2"]
    with pytest.raises(ConfigError, match="there is no file"):
        words(["@nothing.words"])
