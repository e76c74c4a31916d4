"""SD3's text path: parity with diffusers' pipeline, length policies, nulls, and that designed random encoders are easy to read."""

from __future__ import annotations

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from transformers import CLIPTokenizer, T5TokenizerFast

from animeflow.core.errors import ConfigError
from animeflow.model.sd35.encoders import T5
from animeflow.model.sd35.family import SD35
from animeflow.model.sd35.t5_length import T5Length
from animeflow.model.sd35.text_tower import SD3TextTower
from animeflow.model.sd35.tiny import tiny_tower

COLOURS = ["black", "blonde", "red", "blue", "green", "pink", "purple", "white"]
NOUNS = ["hair", "eyes", "dress", "sky"]
EXTRAS = [
    "smile",
    "angry",
    "glasses",
    "twintails",
    "kimono",
    "beach",
    "night",
    "hat",
    "ribbon",
    "standing",
    "solo",
    "hairclip",
    "chair",
]
WORDS = [*COLOURS, *NOUNS, *EXTRAS, "1girl", "2girls", "a", "with", "and", "@_@", "café", "髪", "青"]
CAPTIONS = ["1girl, blue hair, red eyes", "", "a black dress and a hat, " * 3]


@pytest.fixture(scope="module")
def tower() -> SD3TextTower:
    return tiny_tower(WORDS)


@pytest.mark.parametrize("length", [77, 256])
def test_conditioning_equals_diffusers_encode_prompt(length):
    policy = T5Length("diffusers", length=length)
    tower = tiny_tower(WORDS, t5_length=policy, clip_length=77, row_dtype=torch.float32)
    pipeline = StableDiffusion3Pipeline(
        transformer=None,
        scheduler=None,
        vae=None,
        text_encoder=tower.clip_l.model,
        tokenizer=tower.clip_l.tokenizer,
        text_encoder_2=tower.clip_g.model,
        tokenizer_2=tower.clip_g.tokenizer,
        text_encoder_3=tower.t5.model,
        tokenizer_3=tower.t5.tokenizer,
    )
    captions = [*CAPTIONS, "blue hair, " * 200]
    text, _, pooled, _ = pipeline.encode_prompt(
        captions, None, None, do_classifier_free_guidance=False, max_sequence_length=length, device="cpu"
    )
    ours = tower.collate(tower.encode(captions))
    assert ours["text"].shape == (4, 77 + length, 128)
    assert "text_mask" not in ours
    torch.testing.assert_close(ours["text"], text, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours["pooled"], pooled, rtol=1e-5, atol=1e-5)


def test_the_layout_is_l_beside_g_then_t5(tower):
    row = tower.encode(CAPTIONS[:1])[0]
    cond = tower.collate([row])
    text = cond["text"][0]
    assert torch.equal(text[:40, :48], row["clip_l"])
    assert torch.equal(text[:40, 48:128], row["clip_g"])
    assert torch.equal(text[40:], row["t5"])
    assert torch.equal(cond["pooled"][0], torch.cat([row["pooled_l"], row["pooled_g"]]))
    assert {tensor.dtype for tensor in row.values()} == {torch.bfloat16}


def test_a_narrow_clip_is_padded_with_zero_channels():
    tower = tiny_tower(WORDS, joint_dim=64)
    wider = SD3TextTower(tower.clip_l, tower.clip_g, None, joint_dim=100, t5_length=T5Length(length=7))
    text = wider.collate(wider.encode(CAPTIONS))["text"]
    assert text.shape == (3, 40 + 7, 100)
    assert not text[:, :40, 64:].any()
    assert not text[:, 40:].any()  # without T5 diffusers appends a block of zeros


def test_length_policies():
    exact, comfy, real = (T5Length(policy, length=256) for policy in ("diffusers", "comfy", "unpadded"))
    assert [exact(n) for n in (1, 77, 256, 300)] == [256, 256, 256, 256]
    assert [comfy(n) for n in (1, 77, 256, 900)] == [77, 77, 256, 512]
    assert [real(n) for n in (1, 77, 256, 900)] == [1, 77, 256, 512]
    assert (exact.null, comfy.null, real.null) == (256, 0, 0)
    with pytest.raises(ConfigError, match="did you mean 'comfy'"):
        T5Length("comfyui")


def test_buckets_are_few_lengths_and_the_smallest_that_holds_a_caption_is_taken():
    released, tiny = (
        SD35("medium", t5_pad_policy="buckets").t5_length,
        SD35("tiny", t5_pad_policy="buckets").t5_length,
    )
    assert released.lengths == T5Length("buckets").lengths == (77, 128, 256)
    assert [released(n) for n in (1, 77, 78, 128, 129, 256, 257, 900)] == [77, 77, 128, 128, 256, 256, 256, 256]
    assert tiny.lengths == (40, 66, 80)  # 40 and 80 are also where `comfy` begins and ends
    assert [tiny(n) for n in (1, 40, 41, 66, 67, 80, 300)] == [40, 40, 66, 66, 80, 80, 80]
    assert [length.limit for length in (released, tiny)] == [256, 80]
    assert released.null == 0
    with pytest.raises(ConfigError, match="did you mean 'buckets'"):
        T5Length("bucket")


def test_a_plan_takes_buckets_at_their_longest():
    assert SD35("medium", t5_pad_policy="buckets").text_tokens == 77 + 256
    assert SD35("tiny", t5_pad_policy="buckets").text_tokens == 40 + 80
    assert SD35("medium", t5_pad_policy="buckets", with_t5=False).text_tokens == 77


def bucketed() -> SD3TextTower:
    return SD35("tiny", vocabulary=WORDS, t5_pad_policy="buckets", clip_length=10).text_tower()


def test_a_bucketed_row_is_what_diffusers_computes_at_its_length():
    tower = bucketed()
    pipeline = StableDiffusion3Pipeline(
        transformer=None,
        scheduler=None,
        vae=None,
        text_encoder=tower.clip_l.model,
        tokenizer=tower.clip_l.tokenizer,
        text_encoder_2=tower.clip_g.model,
        tokenizer_2=tower.clip_g.tokenizer,
        text_encoder_3=tower.t5.model,
        tokenizer_3=tower.t5.tokenizer,
    )
    seen = set()
    for words in (0, 9, 10, 15, 16, 19, 40):
        caption = "blue " * words
        row = tower.encode([caption])[0]["t5"]
        expected = next((n for n in (10, 16, 20) if n >= words + 1), 20)
        text = pipeline.encode_prompt(
            caption, None, None, do_classifier_free_guidance=False, max_sequence_length=expected, device="cpu"
        )[0]
        assert len(row) == expected
        torch.testing.assert_close(row, text[0, -expected:].bfloat16(), rtol=2**-7, atol=1e-6)  # one bf16 step
        weighted = tower.encode_weighted([[(caption, 1.0), ("red", 1.3)]])[0]["t5"]
        assert len(weighted) == next((n for n in (10, 16, 20) if n >= words + 2), 20)
        seen.add(expected)
    assert seen == {10, 16, 20}
    assert tower.num_tokens("blue " * 40)["t5"] == (41, 20)


def test_buckets_of_one_length_need_no_mask():
    tower = bucketed()
    short, long = tower.encode(["", "blue hair", "red eyes"]), tower.encode(["blue " * 11, "red " * 15])
    assert {len(row["t5"]) for row in short} == {10} and {len(row["t5"]) for row in long} == {16}
    for rows in (short, long):
        assert "text_mask" not in tower.collate(rows)
        assert "text_mask" not in tower.collate(rows, drop=[frozenset({"t5"})] * len(rows))
    assert tower.collate([*short, *long])["text_mask"].sum(1).tolist() == [20, 20, 20, 26, 26]


def test_ragged_rows_get_a_mask_that_hides_exactly_their_padding():
    tower = tiny_tower(WORDS, t5_length=T5Length("unpadded"))
    rows = tower.encode(CAPTIONS)
    lengths = [len(row["t5"]) for row in rows]
    assert len(set(lengths)) == 3
    cond = tower.collate(rows)
    assert cond["text_mask"].sum(1).tolist() == [40 + length for length in lengths]
    assert not cond["text"][~cond["text_mask"]].any()
    assert "text_mask" not in tower.collate([rows[0], rows[0]])


def test_a_dropped_encoder_is_zero_in_its_own_part(tower):
    rows = tower.encode(CAPTIONS)
    whole = tower.collate(rows)
    parts = {  # (tokens, channels of the sequence), channels of pooled
        "clip_l": ((slice(0, 40), slice(0, 48)), slice(0, 48)),
        "clip_g": ((slice(0, 40), slice(48, 128)), slice(48, 128)),
        "t5": ((slice(40, 80), slice(0, 128)), slice(0, 0)),
    }
    for name, ((tokens, channels), pooled) in parts.items():
        dropped = tower.collate(rows, drop=[frozenset({name})] * 3)
        text, vector = whole["text"].clone(), whole["pooled"].clone()
        text[:, tokens, channels] = 0
        vector[:, pooled] = 0
        assert torch.equal(dropped["text"], text)
        assert torch.equal(dropped["pooled"], vector)
    null = tower.collate(rows, drop=[frozenset(parts)] * 3)
    assert not null["text"].any()
    assert not null["pooled"].any()


def test_truncation_counts_start_and_end(tower):
    assert tower.num_tokens("blue hair") == {"clip_l": (4, 4), "clip_g": (4, 4), "t5": (3, 3)}
    assert tower.num_tokens("blue " * 100) == {"clip_l": (102, 40), "clip_g": (102, 40), "t5": (101, 40)}


def test_equal_captions_are_encoded_once(tower, monkeypatch):
    seen: list[str] = []
    plain = type(tower.clip_l).__call__
    monkeypatch.setattr(type(tower.clip_l), "__call__", lambda clip, some: (seen.extend(some), plain(clip, some))[1])
    tower.encode(["blue", "red", "blue", ""])
    assert sorted(seen) == sorted(["blue", "red", ""] * 2)  # by two CLIPs


def test_every_word_is_one_token_and_nothing_crashes(tower, tmp_path):
    tower.save(tmp_path)
    loaded = (
        CLIPTokenizer.from_pretrained(tmp_path / "tokenizer"),
        T5TokenizerFast.from_pretrained(tmp_path / "tokenizer_3"),
    )
    clip, t5 = tower.clip_l.tokenizer, tower.t5.tokenizer
    for word in WORDS:
        assert len(t5.tokenize(word)) == 1, word
        for piece in re.findall(
            r"\d|[^\W\d_]+|[^\w\s]+|_", word
        ):  # CLIP cuts at digits and signs, whatever the vocabulary
            assert len(clip.tokenize(piece)) == 1, piece
    assert clip.tokenize("青髪")[-1] != clip.unk_token and len(clip.tokenize("青髪")) == 2
    for text in (
        "",
        " ",
        "qwxyz zzz",
        "初音ミク",
        "💙" * 50,
        "\x00\t\n",
        "BLUE Hair",
        "<|endoftext|>",
        "(blue:1.2)",
        "a" * 3000,
    ):
        for original, again in zip((clip, t5), loaded, strict=True):
            assert original(text)["input_ids"] == again(text)["input_ids"]
        assert tower.encode([text])[0]["pooled_l"].isfinite().all()
    assert clip.model_max_length == loaded[0].model_max_length == 40


def test_a_saved_tower_loads_with_the_same_features(tower, tmp_path):
    tower.save(tmp_path)
    loaded = SD35("tiny", text=tmp_path).text_tower()
    assert loaded.encoders == ("clip_l", "clip_g", "t5")
    for ours, theirs in zip(tower.encode(CAPTIONS), loaded.encode(CAPTIONS), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.fingerprint == SD35("tiny", text=tmp_path).text_tower().fingerprint
    assert loaded.sizes() == tower.sizes()
    planned = {part.name: part.parameters for part in SD35("tiny", text=tmp_path).sizes()}
    assert {name: planned[name] for name in tower.sizes()} == tower.sizes()


def test_a_changed_weight_file_is_another_tower(tower, tmp_path):
    tower.save(tmp_path)
    before = SD35("tiny", text=tmp_path).text_tower().fingerprint
    with torch.no_grad():
        tower_2 = tiny_tower(WORDS)
        tower_2.clip_g.model.text_projection.weight[0, 0] += 1e-3
    tower_2.save(tmp_path)
    assert SD35("tiny", text=tmp_path).text_tower().fingerprint != before


def test_the_fingerprint_follows_whatever_changes_a_row(tower):
    same = tiny_tower(list(WORDS))
    others = [
        tiny_tower(WORDS, seed=1),
        tiny_tower([*WORDS, "umbrella"]),
        tiny_tower(WORDS, with_t5=False),
        tiny_tower(WORDS, t5_length=T5Length("comfy", length=40, minimum=40, maximum=80)),
        tiny_tower(WORDS, t5_length=T5Length("diffusers", length=41, minimum=40, maximum=80)),
        tiny_tower(WORDS, t5_length=T5Length("buckets", length=40, minimum=40, maximum=80)),
        tiny_tower(WORDS, clip_length=41),
        tiny_tower(WORDS, row_dtype=torch.float32),
    ]
    assert same.fingerprint == tower.fingerprint
    assert len({other.fingerprint for other in [tower, *others]}) == len(others) + 1
    tower.encode(CAPTIONS)
    tower.num_tokens("blue " * 99)
    assert tiny_tower(WORDS).fingerprint == tower.fingerprint  # use leaves no trace in the tokenizers


def test_a_new_word_moves_no_other_word():
    few, more = tiny_tower(WORDS), tiny_tower([*WORDS, "umbrella", "aquarium"])
    for name, tensor in few.encode(["blue hair and glasses"])[0].items():
        torch.testing.assert_close(tensor, more.encode(["blue hair and glasses"])[0][name])


def captions_and_facts(count: int) -> tuple[list[str], list[dict[str, str]]]:
    rng = random.Random(0)
    captions, facts = [], []
    for _ in range(count):
        colours = {noun: rng.choice(COLOURS) for noun in NOUNS if rng.random() < 0.9}
        tags = [f"{colour} {noun}" for noun, colour in colours.items()] + rng.sample(EXTRAS, rng.randint(2, 8))
        rng.shuffle(tags)
        captions.append(", ".join([rng.choice(["1girl", "2girls"]), *tags]))
        facts.append(colours)
    return captions, facts


def test_a_linear_probe_reads_words_and_their_pairing_from_the_pooled_vector(tower):
    captions, facts = captions_and_facts(1600)
    cond = tower.collate(tower.encode(captions))
    features = torch.cat([cond["pooled"].double(), torch.ones(len(captions), 1)], dim=1)
    fit, held = features[:1200], features[1200:]

    def predict(targets: torch.Tensor) -> torch.Tensor:
        ridge = fit.T @ fit + torch.eye(fit.shape[1])
        return held @ torch.linalg.solve(ridge, fit.T @ targets[:1200])

    bags = [set(re.findall(r"[a-z]+", caption)) for caption in captions]
    present = torch.tensor([[float(word in bag) for word in [*COLOURS, *NOUNS, *EXTRAS]] for bag in bags]).double()
    right = ((predict(present) > 0.5).double() == present[1200:]).double().mean(0)
    assert right.min() > 0.95
    paired = []
    for noun in NOUNS:
        colour = torch.tensor([[float(fact.get(noun) == colour) for colour in COLOURS] for fact in facts]).double()
        told = colour[1200:].sum(1) > 0
        paired.append((predict(colour).argmax(1) == colour[1200:].argmax(1))[told].double().mean())
    assert sum(paired) / len(paired) > 0.6  # chance is 0.125: which colour belongs to which noun


def test_a_token_state_keeps_its_word_and_the_word_before(tower):
    row = tower.encode(["blue hair, red hair"])[0]  # start, blue, hair, comma, red, hair, end
    for name in ("clip_l", "clip_g"):
        states = row[name].float()
        blue_hair, red_hair, comma = states[2], states[5], states[3]
        same_word = torch.cosine_similarity(blue_hair, red_hair, dim=0)
        assert 0.3 < same_word < 0.95
        assert torch.cosine_similarity(blue_hair, comma, dim=0) < same_word


def test_threads_that_encode_and_move_at_once_get_the_same_rows(tower):
    captions = [f"{colour} {noun}, " * k for k, (colour, noun) in enumerate(zip(COLOURS, NOUNS * 2), start=1)]
    alone = [tower.encode([caption])[0] for caption in captions]

    def work(k: int) -> bool:
        tower.to("cpu")
        counted = tower.num_tokens(captions[k])
        row = tower.encode([captions[k]])[0]
        return counted["clip_l"][1] <= tower.clip_l.length and all(torch.equal(row[n], alone[k][n]) for n in row)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, list(range(len(captions))) * 12))


def test_moving_waits_for_the_encoding_of_another_thread(tower, monkeypatch):
    started, order, encode = threading.Event(), [], T5.__call__

    def slow(self, ids):
        started.set()
        time.sleep(0.1)  # time enough to move
        order.append("encoded")
        return encode(self, ids)

    monkeypatch.setattr(T5, "__call__", slow)
    with ThreadPoolExecutor(1) as pool:
        rows = pool.submit(tower.encode, ["red hair"])
        started.wait()
        tower.to("cpu")
        order.append("moved")
        rows.result()
    assert order == ["encoded", "moved"]


def test_encoders_that_do_not_fit_together_are_refused(tower):
    with pytest.raises(ConfigError, match="do not fit together"):
        SD3TextTower(tower.clip_l, tower.clip_g, tower.t5, joint_dim=96, t5_length=T5Length())
    with pytest.raises(ConfigError, match="multiple of 16"):
        tiny_tower(WORDS, joint_dim=100)
