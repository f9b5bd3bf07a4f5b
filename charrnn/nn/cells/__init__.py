"""Recurrent cells, each written as its equations, and the table of their names."""

import dataclasses

from charrnn.config import ModelConfig
from charrnn.nn.cells.base import Cell, Kernel, LinearCell, Product, Vectors
from charrnn.nn.cells.elman import Elman, ElmanReLU
from charrnn.nn.cells.gru import GRU, MGU, ResetAfterGRU, SimpleGRU
from charrnn.nn.cells.light import SRU, MinGRU, MinLSTM
from charrnn.nn.cells.lstm import LSTM, CoupledLSTM, MogrifierLSTM, PeepholeLSTM

__all__ = ["CELLS", "Cell", "Kernel", "LinearCell", "Product", "Vectors", "make_cell"]

CELLS: dict[str, type[Cell]] = {
    "rnn": Elman,
    "rnn-relu": ElmanReLU,
    "lstm": LSTM,
    "lstm-peephole": PeepholeLSTM,
    "lstm-coupled": CoupledLSTM,
    "mogrifier-lstm": MogrifierLSTM,
    "gru": GRU,
    "gru-reset-after": ResetAfterGRU,
    "gru-simple": SimpleGRU,
    "mgu": MGU,
    "sru": SRU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
}


def make_cell(config: ModelConfig) -> Cell:
    """The cell that `--cell` names, with those options of the configuration that it has."""
    cell = CELLS[config.cell]
    names = [field.name for field in dataclasses.fields(cell)]  # type: ignore[arg-type]
    return cell(**{name: getattr(config, name) for name in names if getattr(config, name) is not None})
