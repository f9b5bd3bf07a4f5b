"""What the weights of each cell start from."""

import dataclasses

import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.nn.cells import CELLS
from charrnn.nn.network import create

V = 11

BIASES = {  # with --forget-bias 2 and --output-bias -1 where the cell has them; the first block to the last
    "rnn": [0], "rnn-relu": [0], "lstm": [0, 2, 0, -1], "lstm-peephole": [0, 2, 0, -1], "lstm-coupled": [-2, 0, -1],
    "gru": [0, 2, 0], "gru-reset-after": [0, 2, 0], "gru-simple": [2, 0], "mgu": [-2, 0],
    "sru": [2, -1, 0, 0], "mingru": [-2, 0], "minlstm": [2, 0, 0], "mogrifier-lstm": [0, 2, 0, -1],
}  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_initialisation(cell):
    options = {field.name for field in dataclasses.fields(CELLS[cell])}
    given = {name: value for name, value in {"forget_bias": 2.0, "output_bias": -1.0}.items() if name in options}
    config = ModelConfig(cell=cell, num_layers=2, hidden_size=8, embedding_size=4, **given)
    for layer in create(config, V, 0).layers:
        bias = layer.gate_bias if cell == "mogrifier-lstm" else layer.bias
        np.testing.assert_array_equal(bias[...], np.repeat(BIASES[cell], 8))
        for name, kernel in layer.cell.kernels(4, 8).items():
            for block in np.split(np.asarray(layer.weights.kernels[name]), len(kernel.blocks), -1):
                if kernel.initial == "glorot":
                    assert 0.5 < float(np.abs(block).max()) / (6 / sum(block.shape)) ** 0.5 <= 1
                    continue
                np.testing.assert_allclose(block @ block.T, kernel.scale**2 * np.eye(8), atol=1e-5)
                assert (np.abs(block - np.diag(np.diag(block))).max() > 0.1) == (kernel.initial == "orthogonal")
        assert not any(np.any(values) for name, values in layer.weights.vectors.items() if name != "gate_bias")


def test_rectified_units_start_as_a_scaled_identity():
    (layer,) = create(ModelConfig(cell="rnn-relu", hidden_size=8, embedding_size=4), V, 0).layers
    np.testing.assert_allclose(layer.recurrent_kernel[...], 0.9 * np.eye(8), rtol=1e-6)


@pytest.mark.parametrize(("bias", "embedding"), [(0.0, 64), (-3.0, 64), (0.0, 0)])
def test_the_highway_of_sru_starts_as_the_paper_has_it(bias, embedding):
    config = ModelConfig(cell="sru", num_layers=2, hidden_size=256, embedding_size=embedding, output_bias=bias)
    below, above = (np.split(np.asarray(layer.input_kernel[...]), 4, -1) for layer in create(config, V, 0).layers)
    scale = (1 + 2 * np.exp(bias)) ** 0.5
    np.testing.assert_allclose(above[3], scale * np.eye(256), rtol=1e-6)
    assert float(below[3].std() / below[2].std()) == pytest.approx(scale, rel=0.02 if embedding else 0.04)


def test_one_hot_rows_have_unit_scale():
    one_hot = create(ModelConfig(hidden_size=64, embedding_size=0), 50, 0).layers[0].input_kernel[...]
    assert 0.9 < float(one_hot.std()) < 1.1
