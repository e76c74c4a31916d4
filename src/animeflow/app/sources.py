"""From `catalogue.source` of a config to the source that reads it: every kind that a config can name is listed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from .build import build, choose
from .tag_database import tag_database
from .wiring import Config


def source(config: Config) -> Any:
    """Where pictures and their facts are read from."""
    from ..catalogue.sources.concepts import ConceptsSource
    from ..catalogue.sources.danbooru import DanbooruSource, booru_api
    from ..catalogue.sources.folder import FolderSource
    from ..catalogue.sources.gallery_dl import GalleryDlSource
    from ..catalogue.sources.hydrus import HydrusSource
    from ..catalogue.sources.imagefolder import ImageFolderSource
    from ..catalogue.sources.indexed_tar import IndexedTarSource
    from ..catalogue.sources.toonworld import ToonworldSource
    from ..catalogue.sources.unpacked import UnpackedSource
    from ..catalogue.sources.waifuc import WaifucSource

    node = config["catalogue"]
    for name in ("root", "posts", "metadata"):
        path = node.get(name)
        if path is not None and not Path(path).exists():
            what = {"root": "your pictures", "posts": "the table or dump of posts", "metadata": "the file of metadata"}
            raise ConfigError(f"{path} does not exist", where=f"catalogue.{name}", do=f"give the path of {what[name]}")

    def concepts(concepts: Mapping[str, Any]) -> ConceptsSource:
        where = "catalogue.source.concepts"
        for name, options in concepts.items():
            if not isinstance(options, Mapping) or "name" in options:
                raise ConfigError(
                    f"'{name}' is no concept", where=where, do=f"write it like {{{name}: {{root: FOLDER}}}}"
                )
        return ConceptsSource(
            [
                build(FolderSource, options, where=f"{where}.{name}", name=str(name))
                for name, options in concepts.items()
            ]
        )

    kinds: dict[str, Callable[..., Any]] = {
        "toonworld": ToonworldSource,
        "folder": FolderSource,
        "concepts": concepts,
        "danbooru": DanbooruSource,
        "gallery_dl": GalleryDlSource,
        "booru_api": booru_api,
        "hydrus": HydrusSource,
        "imagefolder": ImageFolderSource,
        "indexed_tar": IndexedTarSource,
        "waifuc": WaifucSource,
        "unpacked": UnpackedSource,
    }
    return _sorted(choose(kinds, node["source"], where="catalogue.source"), config)


def _sorted(found: Any, config: Config) -> Any:
    """The source, whose unsorted tags get their categories from the database of tags that the config names."""
    if not (config.get("text") or {}).get("database"):
        return found
    from ..catalogue.sources.categories import Sorted

    return Sorted(found, tag_database(config, wanted_by="text.database").category_of_word)
