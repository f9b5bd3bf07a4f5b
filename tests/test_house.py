"""The house rules: the floors, what start-up may import, that every command is documented."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "charrnn"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "config": 0, "fields": 0, "errors": 0, "units": 0,
    "nn": 1, "text": 1,
    "checkpoint": 2,
    "training": 3, "generation": 3,
    "__init__": 4, "model": 4, "trainer": 4, "gradients": 4, "parts": 4, "runs": 4,
    "sampling": 4, "scoring": 4, "reader": 4,
    "cli": 5, "__main__": 6,
}  # fmt: skip
SIDE_BY_SIDE = {"training", "generation"}
LONGEST_FILE = 350


def room_of(file: Path) -> str:
    """The room a file is in: its folder, or its own name on the package's top level."""
    return Path(file.relative_to(PACKAGE).parts[0]).stem


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """The modules a file imports, wherever in it; `from charrnn import x` counts as both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(module: str) -> Iterator[str]:
    """The room that an imported module of ours is in."""
    parts = module.split(".")
    if parts[0] == "charrnn" and len(parts) > 1:
        yield parts[1] if parts[1] in FLOORS else "__init__"


def broken_rule(importer: str, imported: str) -> bool:
    """Whether a file of one room may not import another room."""
    if importer == imported:
        return False
    if importer == "__init__":
        return FLOORS[imported] > FLOORS["__init__"]  # it gives the rooms of its own floor their public names
    if {importer, imported} == SIDE_BY_SIDE or FLOORS[imported] > FLOORS[importer]:
        return True
    beside = FLOORS[imported] == FLOORS[importer]
    return beside and FLOORS[importer] not in (0, 4)  # floors of single files, which may use each other


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_file_keeps_to_its_floor(file: Path) -> None:
    room = room_of(file)
    assert room in FLOORS, f"{file} is in no room of the house"
    for module in imported_modules(ast.parse(file.read_text("utf-8"))):
        for imported in rooms_of(module):
            assert not broken_rule(room, imported), f"{file.name} ({room}) imports {module}"


@pytest.mark.parametrize(
    "file", [file for file in FILES if room_of(file) in ("text", "config", "errors", "units")], ids=str
)
def test_text_knows_no_jax(file: Path) -> None:
    roots = {module.split(".")[0] for module in imported_modules(ast.parse(file.read_text("utf-8")))}
    assert not roots & {"jax", "jaxlib", "flax", "optax", "orbax"}


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) not in ("cli", "__main__")], ids=str)
def test_only_the_command_line_prints(file: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


@pytest.mark.parametrize("file", FILES + sorted((ROOT / "tests").rglob("*.py")), ids=lambda file: file.name)
def test_file_is_not_long(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("command", ["", "train", "sample", "complete", "write", "score", "next", "bench gradients"])
def test_help_imports_neither_jax_nor_numpy(command: str) -> None:
    script = (
        "import sys; from charrnn.cli.main import cli\n"
        f"cli.main({[*command.split(), '--help']!r}, prog_name='charrnn', standalone_mode=False)\n"
        "print(*sorted({'jax', 'numpy', 'flax', 'optax', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("Usage: charrnn") and done.stderr.strip() == ""


def test_every_command_is_documented() -> None:
    from charrnn.cli.main import cli

    readme = (ROOT / "README.md").read_text("utf-8")
    for name, command in cli.commands.items():
        assert command.help and command.help.strip(), f"{name} has no help"
        assert f"charrnn {name}" in readme, f"README.md does not mention `charrnn {name}`"
        for parameter in command.params:
            record = parameter.to_info_dict()
            assert record["param_type_name"] == "argument" or record.get("help"), f"{name} {parameter.name}"


def test_every_cell_is_documented() -> None:
    from charrnn.config import ModelConfig
    from charrnn.fields import value_types

    readme = (ROOT / "README.md").read_text("utf-8")
    assert [cell for cell in value_types(ModelConfig)["cell"][1] if f"`{cell}`" not in readme] == []


def test_version_is_one() -> None:
    import charrnn

    assert f'version = "{charrnn.__version__}"' in (ROOT / "pyproject.toml").read_text("utf-8")
