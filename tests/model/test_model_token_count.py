"""Tokens counted by tokenizers on disk: as many as the library's own encoding has, and as a text tower with them says."""

import os
from pathlib import Path

import pytest

from animeflow.core.errors import ConfigError
from animeflow.model.tiny_tokenizers import clip_tokenizer, default_words, qwen_tokenizer, t5_tokenizer
from animeflow.model.token_count import Counting, Tokenizers, kinds_in

WORDS = ["smile", "cat", "ears", "long", "hair"]
TEXTS = ["", "smile", "1girl, cat ears, long hair", "女の子、笑顔", "unheard-of wørds ♥ " * 9, "smile " * 300]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("tokenizers")
    clip_tokenizer(WORDS, length=77).save_pretrained(home / "tokenizer")
    t5_tokenizer(WORDS, length=256).save_pretrained(home / "tokenizer_3")
    qwen_tokenizer(WORDS).save_pretrained(home / "tokenizer_q")
    return home


def test_kinds_are_found_in_the_folder_and_in_those_it_has(folder):
    found = kinds_in(folder)
    assert {kind: place.name for kind, place in found.items()} == {
        "clip": "tokenizer",
        "t5": "tokenizer_3",
        "qwen": "tokenizer_q",
    }
    assert kinds_in(folder / "tokenizer_3") == {"t5": folder / "tokenizer_3"}
    with pytest.raises(ConfigError, match="no tokenizer"):
        Tokenizers(folder / "nowhere")


@pytest.mark.parametrize("encoder, special", [("clip_l", 2), ("clip_g", 2), ("t5", 1), ("qwen", 0)])
def test_counts_are_the_library_s_own(folder, encoder, special):
    from tokenizers import Tokenizer

    kinds = Tokenizers(folder)
    count, own = kinds.count(encoder), Tokenizer.from_file(str(kinds.found[encoder.split("_")[0]] / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    for text in TEXTS:
        assert count(text) == max(1, len(own.encode(text, add_special_tokens=False).ids) + special)
    assert kinds.count("other") is None


def test_a_tower_of_the_same_tokenizers_is_counted_alike(tmp_path):
    from animeflow.model import registry

    tower = registry.constructor("sd35")("tiny", t5_length=40).text_tower()
    clip_tokenizer(default_words(), length=77).save_pretrained(tmp_path / "clip")
    t5_tokenizer(default_words(), length=40).save_pretrained(tmp_path / "t5")
    counting = Counting(tower, Tokenizers(tmp_path))
    assert counting.missing == []
    for text in TEXTS:
        assert counting.num_tokens(text) == tower.num_tokens(text)


def test_what_no_tokenizer_is_there_for_the_tower_counts(folder):
    class Tower:
        def num_tokens(self, caption):
            return {"other": (len(caption), min(len(caption), 5)), "t5": (0, 7)}

    counting = Counting(Tower(), Tokenizers(folder))
    assert counting.missing == ["other"]
    assert counting.num_tokens("smile " * 20) == {"other": (120, 5), "t5": (21, 7)}


@pytest.mark.parametrize("encoder, tokens", [("clip_l", 9), ("t5", 8), ("qwen", 7)])
def test_the_released_tokenizers_count(encoder, tokens):
    """Counted by hand from the vocabularies: `1girl, cat ears, smile`."""
    data = Path(os.environ.get("ANIMEFLOW_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tokenizers"
    if not data.is_dir():
        pytest.skip("no real tokenizers here")
    assert Tokenizers(data).count(encoder)("1girl, cat ears, smile") == tokens
