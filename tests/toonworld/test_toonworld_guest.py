"""Guests: drawn like everybody, known to nobody. The ordinary world stays what it was."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from animeflow.catalogue.sources.folder import FolderSource
from animeflow.core.errors import ConfigError, DataError
from animeflow.toonworld import describe
from animeflow.toonworld.dataset import World, read_truth, write_dataset
from animeflow.toonworld.draw import draw
from animeflow.toonworld.words import ATTRIBUTES, CAST, FIXED, GUESTS
from animeflow.toonworld.world import HeldOut, Scene, sample_guest_scene

FREE = ("expression", "outfit", "pose")
AROUND = ("background", "lighting", "artist")


def test_the_ordinary_world_is_as_it_was_before_there_were_guests():
    """The digest is of before: data sets, classes of an oracle and words of a tokenizer that exist stay valid."""
    world = World(seed=3, sizes=((96, 96), (112, 96)))
    scenes = "".join(world.scene(index).to_json() for index in range(200))
    assert (
        hashlib.sha256(scenes.encode()).hexdigest()
        == "47b94d1f19529830b75b31710db90cec6d0ec01c8e20f0d3a9db82c50bc128cb"
    )
    facts = repr(
        (describe.vocabulary(), ATTRIBUTES, world.settings(), [describe.tags(world.scene(i)) for i in range(50)])
    )
    assert (
        hashlib.sha256(facts.encode()).hexdigest() == "ae32cd30919d60abecfa98d6d94588e0c3893e46bca6bbfa9a8460cc02a18161"
    )


@pytest.mark.parametrize("name", GUESTS)
def test_nobody_knows_a_guest(name):
    guest = GUESTS[name]
    assert name not in CAST and all(name not in values for values in ATTRIBUTES.values())
    assert name not in describe.vocabulary()
    marks = {(member.mark, member.mark_color) for member in CAST.values()}
    assert (guest.mark, guest.mark_color) not in marks
    assert (guest.hair_color, guest.hair_style) in HeldOut().pairs("hair_style")
    assert 3 <= len(name) <= 5  # small tokenizers spell what they do not know


def test_two_guests_differ_in_everything_that_an_oracle_reads():
    for attribute in FIXED:
        assert len({getattr(guest, attribute) for guest in GUESTS.values()}) == len(GUESTS)


@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_is_alone_and_the_rest_is_drawn_by_lot(name):
    world = World(guest=name, seed=2)
    scenes = [world.scene(index) for index in range(150)]
    for scene in scenes:
        (figure,) = scene.figures
        assert figure.character == name
        assert all(getattr(figure, attribute) == getattr(GUESTS[name], attribute) for attribute in FIXED)
    for attribute in FREE:
        assert {getattr(scene.figures[0], attribute) for scene in scenes} == set(ATTRIBUTES[attribute])
    for attribute in AROUND:
        assert {getattr(scene, attribute) for scene in scenes} == set(ATTRIBUTES[attribute])
    assert Scene.from_json(scenes[0].to_json()) == scenes[0]
    assert sample_guest_scene(name, 2, 7) == scenes[7] != sample_guest_scene(name, 3, 7)


def test_her_clip_is_drawn_and_is_her_own():
    world = World(guest="nova")
    scene = world.scene(0)
    plain = scene.replace("character", "original")
    hers, without = (draw(one, 96, 96, layers=False).pixels.astype(int) for one in (scene, plain))
    changed = np.abs(hers - without).max(2) > 24
    assert 10 < changed.sum() < 400  # a clip, and nothing else
    rows, columns = np.nonzero(changed)
    assert columns.min() > 48 and rows.max() < 48  # at the right of her head


def test_a_folder_of_hers_is_one_that_a_tagger_went_over(tmp_path):
    assert write_dataset(tmp_path, 5, guest="nova", sizes=[(64, 64)], sidecars=True) == 5
    found = {candidate.path.name: candidate for candidate in FolderSource(tmp_path)}
    pictures = [candidate for candidate in found.values() if candidate.reason is None]
    assert sorted(candidate.path.name for candidate in pictures) == [f"{index:07d}.png" for index in range(5)]
    facts = {fact.file: fact for fact in read_truth(tmp_path)}
    for candidate in pictures:
        scene = facts[candidate.path.name].scene
        assert set(candidate.facts.tags["general"]) == set(describe.tags(scene)["general"])
        assert candidate.facts.tags["artist"] == [scene.artist]
        assert candidate.facts.tags["character"] == [] and "nova" not in candidate.path.with_suffix(".txt").read_text()
    assert describe.sidecar(scene, name=True).split(", ")[2] == "nova"


def test_sidecars_come_to_pictures_that_are_there_and_edited_ones_stay(tmp_path):
    options = {"guest": "lumi", "sizes": [(48, 48)]}
    write_dataset(tmp_path, 3, **options)
    assert not list(tmp_path.glob("*.txt"))
    (tmp_path / "0000001.txt").write_text("mine")
    assert write_dataset(tmp_path, 3, **options, sidecars=True) == 0
    assert len(list(tmp_path.glob("*.txt"))) == 3 and (tmp_path / "0000001.txt").read_text() == "mine"


def test_a_folder_holds_one_world(tmp_path):
    write_dataset(tmp_path, 2, sizes=[(48, 48)])
    with pytest.raises(DataError, match="other guest"):
        write_dataset(tmp_path, 2, sizes=[(48, 48)], guest="nova")
    other = tmp_path / "other"
    write_dataset(other, 2, sizes=[(48, 48)], guest="nova")
    with pytest.raises(DataError, match="other guest"):
        write_dataset(other, 2, sizes=[(48, 48)])


def test_an_unknown_guest_is_told():
    with pytest.raises(ConfigError, match=r"no guest is called 'noba'.*nova"):
        World(guest="noba")
