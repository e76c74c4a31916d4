"""The shape of the house: floors, doors, and what may be imported when. Reads the source; knows what no module does.

Imports go strictly down from floor to floor, which also rules out cycles between rooms. Change a rule here together
with `docs/architecture.md`, and say why in the commit.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from animeflow.model import registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "animeflow"

FLOORS = [
    {"core"},
    {"flow", "image", "text", "toonworld"},
    {"catalogue", "model", "optim"},
    {"data", "recipe", "sample", "export", "learn", "curate", "annotate"},
    {"train", "evaluate"},
    {"bench"},
    {"app"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

DOORS = {  # foreign library -> the rooms, or the one module, that may import it
    "hydra": {"app"},
    "omegaconf": {"app"},
    "click": {"app"},
    "accelerate": {"train"},
    "webdataset": {"data"},
    "cv2": {"image", "toonworld"},
    "PIL": {"image", "sample"},
    "diffusers": {"model", "export"},
    "transformers": {"model", "export", "annotate"},
    "peft": {"model", "export", "learn"},
    "tokenizers": {"model", "export"},
    "wandb": {"train/tracker.py"},
    "duckdb": {"catalogue", "curate"},
    "pyarrow": {"catalogue", "data", "curate", "annotate"},
    "onnxruntime": {"annotate"},
    "ray": {"core/engine.py"},
    "filelock": {"core/lock.py"},
    "brotli": {"image"},
    "fsspec": {"data"},
    "torchao": {"model", "optim"},
    "bitsandbytes": {"model", "optim"},
    "prodigyopt": {"optim"},
}
TORCH_FREE = ("image", "text", "toonworld", "catalogue", "curate")  # they start fast and run in worker processes
FAMILY_BLIND = ("flow", "recipe", "train", "data", "sample")  # they know parts by protocol only
SLOW = ("torch", "diffusers", "transformers", "peft", "accelerate", "wandb", "webdataset", "cv2", "duckdb", "pyarrow")


@dataclass(frozen=True)
class Import:
    """One import statement: who asks, for which dotted name, in which line."""

    file: Path
    name: str
    line: int

    @property
    def room(self) -> str:
        """The room that asks; `""` for the package's own `__init__`."""
        parts = self.file.relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else ""

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.name}"


def imports_of(file: Path) -> Iterator[Import]:
    """Every import of a module, those inside functions too, with relative names made absolute."""
    package = ("animeflow", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(), filename=str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:  # `from .. import flow` names a room only in its alias
                yield Import(file, f"{module}.{alias.name}", node.lineno)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def every_import() -> tuple[Import, ...]:
    return tuple(each for file in modules() for each in imports_of(file))


def test_every_room_has_a_floor():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert rooms <= set(FLOOR), f"rooms without a floor: {sorted(rooms - set(FLOOR))}"


def test_imports_only_go_down():
    wrong = []
    for each in every_import():
        parts = each.name.split(".")
        if parts[0] != "animeflow" or len(parts) < 2 or parts[1] not in FLOOR:
            continue
        if not each.room:
            wrong.append(f"{each}: the package itself imports nothing")
        elif parts[1] != each.room and FLOOR[parts[1]] >= FLOOR[each.room]:
            wrong.append(f"{each}: floor {FLOOR[each.room]} reaches for floor {FLOOR[parts[1]]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_one_door(library):
    wrong = [
        str(each)
        for each in every_import()
        if each.name.split(".")[0] == library
        and not {each.room, each.file.relative_to(PACKAGE).as_posix()} & DOORS[library]
    ]
    assert not wrong, f"{library} belongs to {sorted(DOORS[library])}:\n" + "\n".join(wrong)


def test_every_module_has_a_noun():
    nameless = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py"}
    assert not [file for file in modules() if file.name in nameless]


def test_nothing_unpickles():
    """Pickle runs code from files; torch.load does too unless it is told `weights_only=True`."""
    wrong = [str(each) for each in every_import() if each.name.split(".")[0] in {"pickle", "dill", "cloudpickle"}]
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("weights_only")
                if safe != "True":
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} calls torch.load without weights_only=True")
    assert not wrong, "\n".join(wrong)


def test_tests_share_the_names_of_rooms():
    folders = {file.parent.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").glob("*/**/test_*.py")}
    folders -= {
        "journey",
        "families",
        "fuzz",
    }  # whole paths, verb by verb, through all rooms; what a family of one's own has to do; hostile files at every door
    assert folders <= set(FLOOR), f"test folders that mirror no room: {sorted(folders - set(FLOOR))}"


def family_of(file: Path) -> str | None:
    """The family whose folder a module lies in."""
    parts = file.relative_to(PACKAGE).parts
    return parts[1] if parts[0] == "model" and parts[1] in registry.names() else None


def words_of_code(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names and strings of a module, without its comments and docstrings, which may cite a paper or a model."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        for word in (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")):
            if isinstance(word, str):
                yield getattr(node, "lineno", 0), word
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.lineno, node.value


def named_families(file: Path) -> list[str]:
    """Places of a module whose code knows the name of a family."""
    name = re.compile(rf"(?<![a-z])({'|'.join(registry.names())})(?![a-z])", re.IGNORECASE)
    return [
        f"{file.name}:{line} says '{word}'"
        for line, word in words_of_code(ast.parse(file.read_text()))
        if name.search(word)
    ]


def test_no_family_is_known_by_name_outside_its_folder():
    """The room of words is left out: a template of captions bears the name of the model whose card published it."""
    files = [file for file in modules() if family_of(file) is None and file.parent != PACKAGE / "text"]
    found = {file: named_families(file) for file in files}
    wrong = [f"{file.parent.relative_to(ROOT)}/{place}" for file, places in found.items() for place in places]
    assert not wrong, "families are found by folder (model/registry.py); ask the family instead:\n" + "\n".join(wrong)


def test_no_family_is_imported_but_by_itself():
    """The registry imports by a name that it was given; every other way in would need an edit for a new family."""
    wrong = []
    for each in every_import():
        parts = each.name.split(".")
        if parts[:2] == ["animeflow", "model"] and len(parts) > 2 and parts[2] in registry.names():
            wrong += [str(each)] if family_of(each.file) != parts[2] else []
    assert not wrong, "\n".join(wrong)


def probes(file: Path) -> list[str]:
    """Questions about the kind of a family's part: `hasattr`, and `isinstance` of a class that the model room or torch.nn made."""
    tree = ast.parse(file.read_text())
    parts = {"nn", "Module"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and "model" in (node.module or "").split("."):
            parts |= {alias.asname or alias.name for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kinds = {part.id for each in node.args[1:] for part in ast.walk(each) if isinstance(part, ast.Name)}
            kinds |= {part.attr for each in node.args[1:] for part in ast.walk(each) if isinstance(part, ast.Attribute)}
            if node.func.id == "hasattr" or (node.func.id in ("isinstance", "issubclass") and kinds & parts):
                found.append(f"{file.name}:{node.lineno} asks {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("room", FAMILY_BLIND)
def test_rooms_below_the_wiring_never_ask_what_kind_a_part_is(room):
    wrong = [place for file in sorted((PACKAGE / room).rglob("*.py")) for place in probes(file)]
    assert not wrong, "a part says what it does by its protocol:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from ..model.protocol import Codec\nisinstance(part, Codec)", 1),
        ("isinstance(part, nn.Linear)", 1),
        ("hasattr(family, 'blocks')", 1),
        ("isinstance(value, int | float)\nisinstance(error, BaseException)", 0),
    ],
)
def test_a_probe_is_found(tmp_path, code, found):
    (tmp_path / "module.py").write_text(code)
    assert len(probes(tmp_path / "module.py")) == found


def test_a_familys_name_is_found_in_code_and_may_be_cited(tmp_path):
    name = registry.names()[0]
    file = tmp_path / "module.py"
    file.write_text(f'"""As {name} does."""\n# {name}\ndef f():\n    """{name}."""\n    return "xyz{name}xyz"\n')
    assert named_families(file) == []
    file.write_text(f'if family == "{name}":\n    {name}_text = 1\nx = {name.capitalize()}()\n')
    assert len(named_families(file)) == 3


def loaded_after(code: str) -> set[str]:
    """Which of the slow libraries a fresh interpreter has loaded after running `code`."""
    report = f"\nimport sys\nprint('loaded:', *[name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.strip().splitlines()[-1].removeprefix("loaded:").split())


@pytest.mark.parametrize("room", TORCH_FREE)
def test_a_room_of_pictures_or_words_does_not_load_torch(room):
    names = [
        ".".join(("animeflow", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for file in sorted((PACKAGE / room).rglob("*.py"))
    ]
    assert "torch" not in loaded_after("\n".join(f"import {name}" for name in names))


def test_the_size_of_a_token_is_known_without_torch():
    code = "from animeflow.model import registry\nassert registry.names()\n[registry.cell(name) for name in registry.names()]"
    assert loaded_after(code) == set()


def test_help_loads_nothing_slow():
    """`animeflow --help` answers in half a second, which torch forbids. Modules are counted, not seconds."""
    code = "from animeflow.app.cli import main\nmain(['--help'], standalone_mode=False)"
    assert loaded_after(code) == set()
