"""Captions beyond CLIP's 77 tokens: the ids that the encoders see are those of ComfyUI's rule, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from contract import stir
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from animeflow.core.errors import ConfigError
from animeflow.core.files import address
from animeflow.data.texts import count_truncated, fitting
from animeflow.model.sd35.encoders import Clip
from animeflow.model.sd35.family import SD35
from animeflow.model.sd35.t5_length import T5Length
from animeflow.model.sd35.text_tower import SD3TextTower
from animeflow.model.sd35.tiny import tiny_tower

WORDS = ["red", "blue", "green", "hair", "eyes", "sky", "smile", "1girl"]
ROOM = 75
SOME = ["red", "blue", "green", "hair", "eyes", "sky", "smile"]  # one token each
THREE, SEVEN, EIGHT = "zzz", "zzzzzzz", "zzzzzzzz"  # not in the vocabulary: as many tokens as letters


def singles(count: int, start: int = 0) -> list[str]:
    return [SOME[(start + n) % len(SOME)] for n in range(count)]


def make(**options) -> SD3TextTower:
    return tiny_tower(
        WORDS, joint_dim=48, **{"clip_length": 77, "clip_chunks": 3, "row_dtype": torch.float32, **options}
    )


@pytest.fixture(scope="module")
def tower() -> SD3TextTower:
    return make()


def seen_by(clip: Clip, run) -> list[list[int]]:
    """The ids that the encoder is given while `run` runs."""
    seen: list[list[int]] = []
    hook = clip.model.register_forward_pre_hook(lambda _, args: seen.extend(args[0].tolist()))
    try:
        run()
    finally:
        hook.remove()
    return seen


def slots(sizes: list[int]) -> list[int]:
    """Where every token of pieces of these sizes goes, counted over all chunks of 75: a piece begins at the next free place, or, if
    it has fewer than eight tokens and the rest of the chunk is too short for it, at the next multiple of 75."""
    places: list[int] = []
    for size in sizes:
        place = places[-1] + 1 if places else 0
        if size < 8 and place % ROOM + size > ROOM:
            place = -(-place // ROOM) * ROOM
        places += range(place, place + size)
    return places


def expected(tokenizer, *pieces: str, most: int = 3) -> list[list[int]]:
    """Rows of 77 ids by that arithmetic."""
    tokens = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    places = slots([len(piece) for piece in tokens])
    rows = [[] for _ in range(1 + max(places, default=0) // ROOM)]
    for place, token in zip(places, (token for piece in tokens for token in piece), strict=True):
        rows[place // ROOM].append(token)
    rows = [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in rows]
    return [row + [tokenizer.pad_token_id] * (77 - len(row)) for row in rows][:most]


def test_the_cuts_are_where_they_are_counted_by_hand(tower):
    def lengths(*pieces: str) -> list[int]:
        return [len(chunk) for chunk in tower.clip_l.cut([(piece, 1.1) for piece in pieces])]

    def text(count: int) -> str:
        return " ".join(singles(count))

    assert lengths("") == [0] and lengths(text(40)) == [40]
    assert lengths(text(75)) == [75] and lengths(text(76)) == [75, 1]
    assert lengths(text(150)) == [75, 75] and lengths(text(200)) == [75, 75, 50]
    assert lengths(text(74) + " " + THREE) == [75, 2]  # the end of a chunk may lie within a word
    assert lengths(text(72), THREE) == [75] and lengths(text(73), THREE) == [73, 3]  # a short piece stays whole
    assert lengths(text(69), SEVEN) == [69, 7] and lengths(text(69), text(7)) == [69, 7]
    assert lengths(text(69), EIGHT) == [75, 2] and lengths(text(69), text(8)) == [75, 2]
    assert lengths(text(75), text(8)) == [75, 8] and lengths(text(75), text(7)) == [75, 7]


@pytest.mark.parametrize("tokens", [1, 40, 74, 75, 76, 77, 78, 79, 80, 150, 151, 200, 300])
def test_the_encoders_see_the_ids_of_the_rule(tower, tokens):
    text = " ".join(singles(tokens))
    halves = [" ".join(singles(tokens - tokens // 2)), " ".join(singles(tokens // 2))]
    small = [" ".join(singles(1 + n % 9, start=n)) for n in range(tokens // 5)]
    for clip in (tower.clip_l, tower.clip_g):
        assert seen_by(clip, lambda: tower.encode([text])) == expected(clip.tokenizer, text)
        for pieces in (halves, small):
            if pieces:
                prompt = [(piece, 1.2) for piece in pieces]
                *seen, empty = seen_by(clip, lambda prompt=prompt: tower.encode_weighted([prompt]))
                assert seen == expected(clip.tokenizer, *pieces) and empty == expected(clip.tokenizer, "")[0]


def test_the_ids_are_those_of_the_released_tokenizer(test_data):
    """CLIP-L pads with the end token, CLIP-G with the token 0; both as files of a pipeline say."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=1, projection_dim=16,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    pads = {49407: {}, 0: {"pad_token": "!"}}
    clips = {
        pad: Clip(
            CLIPTextModelWithProjection(config),
            CLIPTokenizer.from_pretrained(test_data / "tokenizers" / "clip", model_max_length=77, **said),
        )
        for pad, said in pads.items()
    }
    tower = SD3TextTower(*clips.values(), None, joint_dim=32, t5_length=T5Length(), clip_chunks=3)
    tags = "masterpiece, 1girl, hatsune miku (vocaloid), twintails, supercalifragilisticexpialidocious_hyperbole, 初音ミク, :3, "
    text = tags * 5
    for pad, clip in clips.items():
        rows = seen_by(clip, lambda: tower.encode([text]))
        assert rows == expected(clip.tokenizer, text)
        assert len(rows) == 3 and {len(row) for row in rows} == {77}
        assert rows[-1][-1] == pad and all(row[0] == 49406 for row in rows)
    short = "1girl, solo,  smile,\nlong hair:3 (vocaloid) 髪"  # what fits is what CLIP's own call makes of the whole
    whole = clips[0].tokenizer(short, padding="max_length", max_length=77)["input_ids"]
    assert seen_by(clips[0], lambda: tower.encode([short])) == [whole]


def test_a_piece_is_encoded_as_if_it_stood_alone_and_pooled_is_the_first(tower):
    words = singles(154)
    row = tower.encode([" ".join(words)])[0]
    parts = [words[:75], words[75:150], words[150:]]
    alone = [tower.encode([" ".join(part)])[0] for part in parts]
    for name in ("clip_l", "clip_g"):
        torch.testing.assert_close(row[name], torch.cat([part[name] for part in alone]), rtol=1e-5, atol=1e-5)
        assert row[name].shape[0] == 3 * 77
    for name in ("pooled_l", "pooled_g"):
        torch.testing.assert_close(row[name], alone[0][name], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(row[name], alone[1][name], atol=1e-2)


def test_what_fits_into_one_piece_is_unchanged_bit_for_bit(tower):
    plain = make(clip_chunks=1)
    captions = ["", "1girl, red hair", " ".join(singles(75)), f"{EIGHT} {THREE},\nblue sky"]
    for ours, before in zip(tower.encode(captions), plain.encode(captions), strict=True):
        assert ours.keys() == before.keys() and all(torch.equal(ours[name], before[name]) for name in ours)
    prompt = [("red hair", 1.3), ("blue sky", 1.0)]
    ours, before = tower.encode_weighted([prompt])[0], plain.encode_weighted([prompt])[0]
    assert all(torch.equal(ours[name], before[name]) for name in ours)
    assert [dict(tower.num_tokens(text)) for text in captions] == [dict(plain.num_tokens(text)) for text in captions]


def test_the_address_of_one_piece_is_what_it_was_and_every_number_has_its_own():
    made = {most: make(clip_chunks=most) for most in (1, 2, 3)}
    assert len({one.fingerprint for one in made.values()}) == 3
    one = made[1]
    assert one.fingerprint == address(
        clip_l=one.clip_l.identity,
        clip_g=one.clip_g.identity,
        t5=one.t5.identity,
        t5_length=repr(one.t5_length),
        joint_dim=48,
        dtype="torch.float32",
    )
    assert "clip_chunks" not in SD35("tiny", vocabulary=WORDS).describe()


def test_one_piece_still_cuts_at_77_tokens():
    plain, text = make(clip_chunks=1), " ".join([*singles(73), THREE, *singles(9)])
    ids = plain.clip_l.tokenizer(text)["input_ids"]
    assert seen_by(plain.clip_l, lambda: plain.encode([text])) == [[*ids[:76], ids[-1]]]


def test_other_captions_of_a_batch_change_no_row():
    family = SD35(
        "tiny",
        vocabulary=WORDS,
        clip_length=12,
        clip_chunks=3,
        t5_pad_policy="comfy",
        depth=2,
        dual_attention_layers=(0,),
    )
    tower, backbone = family.text_tower(), stir(family.backbone()).eval()
    captions = ["red hair", " ".join(singles(15)), " ".join(singles(28))]
    rows = tower.encode(captions)
    assert [len(row["clip_l"]) for row in rows] == [12, 24, 36]
    again = tower.encode([captions[1]])[0]
    assert all(torch.allclose(rows[1][name].float(), again[name].float(), atol=1e-2) for name in again)
    both = tower.collate(rows)
    lengths = [len(row["clip_l"]) + len(row["t5"]) for row in rows]
    assert both["text_mask"].sum(1).tolist() == lengths and not both["text"][~both["text_mask"]].any()
    x, t = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        together = backbone(x, t, both)
        for n, row in enumerate(rows):
            alone = tower.collate([row])
            assert "text_mask" not in alone and torch.equal(both["text"][n, : lengths[n]], alone["text"][0])
            torch.testing.assert_close(
                together[n : n + 1], backbone(x[n : n + 1], t[n : n + 1], alone), rtol=1e-4, atol=1e-5
            )
    assert together.std() > 1e-2


def test_the_layout_is_l_beside_g_then_t5_and_a_dropped_encoder_is_zero_in_its_own_part(tower):
    row = tower.encode([" ".join(singles(100))])[0]
    text = tower.collate([row])["text"][0]
    assert torch.equal(text[:154, :16], row["clip_l"]) and torch.equal(text[:154, 16:48], row["clip_g"])
    assert torch.equal(text[154:], row["t5"])
    dropped = tower.collate([row], drop=[frozenset({"clip_g"})])
    assert torch.equal(dropped["text"][0, :154, :16], row["clip_l"]) and not dropped["text"][0, :154, 16:].any()
    assert torch.equal(dropped["text"][0, 154:], row["t5"]) and not dropped["pooled"][0, 16:].any()


def test_a_weight_finds_its_tokens_on_both_sides_of_a_border(tower):
    before, heavy, after = singles(70), singles(10, start=3), singles(20, start=1)
    prompt = [(" ".join(before) + " ", 1.0), (" ".join(heavy), 1.3), (" " + " ".join(after), 1.0)]
    weighted, plain, empty = *tower.encode_weighted([prompt]), *tower.encode([" ".join([*before, *heavy, *after]), ""])
    weights = torch.ones(154)
    weights[71:76], weights[78:83] = 1.3, 1.3  # five places before the first end, five after the second start
    for name in ("clip_l", "clip_g"):
        nothing = torch.cat([empty[name], empty[name]])
        torch.testing.assert_close(
            weighted[name], nothing + weights[:, None] * (plain[name] - nothing), rtol=1e-4, atol=1e-4
        )
        unmoved = weights == 1
        assert not torch.allclose(weighted[name][~unmoved], plain[name][~unmoved], atol=1e-2)
    torch.testing.assert_close(weighted["pooled_l"], plain["pooled_l"], rtol=1e-5, atol=1e-5)


def test_truncation_is_counted_exactly():
    tower = make(clip_chunks=2)

    def counts(*words: str) -> tuple[int, int]:
        told = tower.num_tokens(" ".join(words))
        assert told["clip_l"] == told["clip_g"]
        return told["clip_l"]

    assert counts() == (2, 2) and counts(*singles(75)) == (77, 77) and counts(*singles(76)) == (78, 78)
    assert counts(*singles(150)) == (152, 152) and counts(*singles(151)) == (153, 152)
    captions = [" ".join(singles(count)) for count in (10, 150, 151, 400)]
    assert count_truncated(captions, tower)["clip_l"] == 2
    fits = fitting(tower, ["clip_l", "clip_g"])
    assert [fits(text) for text in captions] == [True, True, False, False]
    for text in [
        *captions,
        " ".join([*singles(73), THREE, *singles(74)]),
    ]:  # what is told as kept is what an encoder sees
        special = {tower.clip_l.tokenizer.bos_token_id, tower.clip_l.tokenizer.eos_token_id}
        seen = seen_by(tower.clip_l, lambda text=text: tower.encode([text]))
        assert sum(token not in special for row in seen for token in row) == tower.num_tokens(text)["clip_l"][1] - 2


def test_both_clips_read_as_many_pieces():
    """As ComfyUI cuts both to the shorter; with two vocabularies one may need more."""
    poor = tiny_tower(["red"], joint_dim=48, clip_length=77, row_dtype=torch.float32)
    rich = make()
    tower = SD3TextTower(
        rich.clip_l,
        poor.clip_g,
        None,
        joint_dim=48,
        t5_length=T5Length("comfy"),
        clip_chunks=3,
        row_dtype=torch.float32,
    )
    text = "sky " * 40  # three tokens each for the poor one, so 25 in a chunk
    assert tower.num_tokens(text) == {"clip_l": (42, 42), "clip_g": (122, 77)}
    row = tower.encode([text])[0]
    assert len(row["clip_l"]) == len(row["clip_g"]) == 77
    assert tower.collate([row])["text"].shape == (1, 77, 48)


def test_a_diffusers_export_is_the_same_and_says_that_it_reads_77_tokens(tmp_path):
    options = {"vocabulary": WORDS, "clip_length": 12, "t5_length": 256}
    one, three = SD35("tiny", **options), SD35("tiny", clip_chunks=3, **options)
    assert one.layouts()["diffusers"].notes() == []
    (note,) = three.layouts()["diffusers"].notes()
    assert "up to 3 pieces of 10 tokens" in note and "cuts every prompt at 12 tokens" in note
    for name, family in (("one", one), ("three", three)):
        family.text_tower().save(tmp_path / name)
    files = [file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file()]
    assert files and all(
        (tmp_path / "one" / file).read_bytes() == (tmp_path / "three" / file).read_bytes() for file in files
    )
    loaded = SD35("tiny", text=tmp_path / "one", clip_chunks=3, **options).text_tower()
    text = " ".join(singles(28))
    ours, again = three.text_tower().encode([text])[0], loaded.encode([text])[0]
    assert len(again["clip_l"]) == 36 and all(torch.equal(ours[name], again[name]) for name in ours)


def test_a_plan_takes_the_most_pieces_and_a_record_names_them():
    assert SD35("medium", clip_chunks=3).text_tokens == 3 * 77 + 256
    assert SD35("medium").text_tokens == 77 + 256
    assert "clip_chunks" in SD35.text_settings
    assert SD35("tiny", vocabulary=WORDS, clip_chunks=2).describe()["clip_chunks"] == "2"


@pytest.mark.parametrize("most", [0, -1])
def test_fewer_than_one_piece_is_refused(most):
    with pytest.raises(ConfigError, match="pieces of a caption"):
        SD35("medium", clip_chunks=most)
    with pytest.raises(ConfigError, match="pieces of a caption"):
        make(clip_chunks=most)


def test_a_piece_longer_than_a_small_clip_is_cut_and_not_waited_for():
    tower = make(clip_length=7, clip_chunks=3)  # five places between start and end
    assert [len(chunk) for chunk in tower.clip_l.cut([("red", 1.0), (SEVEN, 1.1), (THREE, 1.0)])] == [5, 3, 3]
    with pytest.raises(ConfigError, match="of 2 tokens"):
        make(clip_length=2, clip_chunks=2)
