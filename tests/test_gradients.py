"""The reach of gradients: against products of Jacobians, and on the command line."""

import json
import shutil
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from charrnn import gradients
from charrnn.cli.bench import _bars, _show
from charrnn.cli.main import cli
from charrnn.config import ModelConfig
from charrnn.nn import recurrence
from charrnn.nn.network import create


@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def norm_by_autodiff(cell: Any, weights: Any, inputs: jax.Array, state: tuple, direction: jax.Array, distance: Any):
    """How far a change of the state so many steps before the last moves the last output in a direction."""

    def last(added: tuple) -> jax.Array:
        """The last output when something is added to that state."""

        def body(state: tuple, here: tuple) -> tuple[tuple, None]:
            remaining, x = here
            state = tuple(
                part + jnp.where(remaining == distance, more, 0.0) for part, more in zip(state, added, strict=True)
            )
            return recurrence.step(cell, weights, x, state, "float32")[0], None

        return jax.lax.scan(body, state, (jnp.arange(8, 0, -1), inputs))[0][0]

    (back,) = jax.vjp(last, jax.tree.map(jnp.zeros_like, state))[1](direction)
    return jnp.sqrt(sum((part**2).sum() for part in back))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "minlstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_norms_are_those_of_autodiff_through_the_whole_window(cell, layers):
    network = create(ModelConfig(cell=cell, num_layers=layers, hidden_size=6, embedding_size=4), 9, 0)
    ids = np.random.default_rng(0).integers(0, 9, (16, 3)).astype(np.int32)
    reach = gradients.of_network(network, ids, 8, cell, seed=3)
    assert reach.distances == (1, 2, 4, 8)
    layer, direction = network.layers[-1], jax.random.normal(jax.random.key(3), (3, 6))
    direction = direction / jnp.linalg.norm(direction)
    inputs, state = gradients._last_layer(network, jnp.asarray(ids), 8)
    expected = [
        float(norm_by_autodiff(layer.cell, layer.weights, inputs, state, direction, np.int32(distance)))
        for distance in reach.distances
    ]
    assert reach.norms == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("norms", "half_life"),
    [((0.5, 0.25), 1.0), ((0.25, 0.0), 0.5), ((2.0, 4.0), -1.0), ((1.0, 1.0), np.inf), ((0.0, 0.0), 0),
     ((2.0, np.inf), -1.0)],
)  # fmt: skip
def test_half_life(norms, half_life):
    assert gradients.GradientReach("", (1, 2), norms).half_life == pytest.approx(half_life)


@pytest.mark.parametrize(("longest", "distances"), [(2, (1, 2)), (5, (1, 2, 4, 5)), (8, (1, 2, 4, 8))])
def test_distances_double_and_end_at_the_longest(longest, distances):
    assert gradients.distances_to(longest) == distances


def test_the_command_shows_every_cell_and_narrows():
    arguments = ["bench", "gradients", "--hidden", "8", "--distance", "64", "--cell", "rnn", "--cell", "lstm"]
    wide = CliRunner().invoke(cli, arguments, env={"COLUMNS": "100"})
    narrow = CliRunner().invoke(cli, arguments, env={"COLUMNS": "40"})
    assert wide.exit_code == narrow.exit_code == 0
    heading = next(line for line in wide.stdout.splitlines() if line.startswith("cell"))
    assert heading.split() == ["cell", "1", "2", "4", "8", "16", "32", "64", "halves", "in"]
    assert max(map(len, narrow.stdout.splitlines()[1:4])) <= 40 and "64" in narrow.stdout and "lstm" in narrow.stdout
    facts = [json.loads(line) for line in CliRunner().invoke(cli, [*arguments, "--json"]).stdout.splitlines()]
    assert [fact["name"] for fact in facts] == ["rnn", "lstm"] and facts[0]["half_life"] < facts[1]["half_life"]


def test_a_cell_is_shown_before_and_after_learning():
    arguments = ["--hidden", "8", "--distance", "4", "--cell", "gru", "--train", "2", "--json"]
    with jax.numpy_dtype_promotion("standard"):  # as Optax needs
        done = CliRunner().invoke(cli, ["bench", "gradients", *arguments])
    assert done.exit_code == 0, done.output
    before, after = (json.loads(line) for line in done.stdout.splitlines())
    assert [before["name"], after["name"]] == ["gru untrained", "gru trained"] and before["norms"] != after["norms"]


def test_what_grows_is_marked():
    assert _bars((50.0, 1.0, 1e-4, 1e-9)) == "▲█▅·"


@pytest.mark.parametrize("columns", ["44", "80"])
def test_a_long_name_takes_lines_and_no_figure_is_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    names = ["tinyshakespeare (lstm) untrained", "tinyshakespeare (lstm) trained"]
    _show([gradients.GradientReach(name, (1, 2, 4), (0.5, 1e-4, 4e-34)) for name in names])
    table = capsys.readouterr().out.split("\n\n")[0]
    assert "…" not in table and max(map(len, table.splitlines())) <= int(columns)
    assert table.count("4e-34") == 2 and table.count("untrained") == 1


@pytest.mark.parametrize(("file", "message"), [("x.txt", "end the name in"), ("no/x.png", "no such folder")])
def test_a_picture_that_cannot_be_written_is_refused_first(tmp_path, file, message):
    done = CliRunner().invoke(cli, ["bench", "gradients", "--plot", str(tmp_path / file)])
    assert done.exit_code != 0 and message in done.stderr.replace("\n", " ")


def test_a_trained_run_stands_beside_its_fresh_network_and_is_drawn(letter_runs, tmp_path):
    pytest.importorskip("matplotlib")
    odd = tmp_path / "[red]:cat:$\\no$.safetensors"
    shutil.copy(letter_runs / "letters" / "model.safetensors", odd)
    picture = tmp_path / "reach.SVG"
    arguments = ["bench", "gradients", "--distance", "4", "--run", str(odd), "--plot", str(picture)]
    done = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [line for line in lines if line[:1] == [str(odd)]]
    assert [row[1:3] for row in rows] == [["(lstm)", "untrained"], ["(lstm)", "trained"]] * 2
    assert rows[0][3:] != rows[1][3:]  # other weights, other figures
    assert "$.safetensors (lstm) trained" in picture.read_text("utf-8") and f"drew {picture}" in done.stderr
