"""Every cell's equations once more, in NumPy alone."""

import numpy as np


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


class Hand:
    """The equations once more, in plain NumPy, with every matrix spelled out gate by gate.

    `W` are the input's parts of the gates, `U` the matrices cut into one a gate, `v` the vectors.
    """

    @staticmethod
    def rnn(W, U, v, h):
        return (tanh(W[0] + h @ U["recurrent_kernel"][0]),)

    @staticmethod
    def rnn_relu(W, U, v, h):
        return (np.maximum(W[0] + h @ U["recurrent_kernel"][0], 0),)

    @staticmethod
    def lstm(W, U, v, h, c):
        i, f, g, o = (W[k] + h @ U["recurrent_kernel"][k] for k in range(4))
        c = logistic(f) * c + logistic(i) * tanh(g)
        return logistic(o) * tanh(c), c

    @staticmethod
    def lstm_peephole(W, U, v, h, c):
        i, f, g, o = (W[k] + h @ U["recurrent_kernel"][k] for k in range(4))
        new = logistic(f + v["peephole_f"] * c) * c + logistic(i + v["peephole_i"] * c) * tanh(g)
        return logistic(o + v["peephole_o"] * new) * tanh(new), new

    @staticmethod
    def lstm_coupled(W, U, v, h, c):
        i, g, o = (W[k] + h @ U["recurrent_kernel"][k] for k in range(3))
        c = (1 - logistic(i)) * c + logistic(i) * tanh(g)
        return logistic(o) * tanh(c), c

    @staticmethod
    def mogrifier_lstm(W, U, v, h, c):
        (x,) = W
        for r in range(1, 100):
            if f"round_{r}_down" not in U:
                break
            gated, by = (x, h) if r % 2 else (h, x)
            gated = 2 * logistic(by @ U[f"round_{r}_down"][0] @ U[f"round_{r}_up"][0]) * gated
            x, h = (gated, h) if r % 2 else (x, gated)
        bias = np.split(v["gate_bias"], 4)
        inputs = x.shape[-1]
        i, f, g, o = (x @ U["kernel"][k][:inputs] + h @ U["kernel"][k][inputs:] + bias[k] for k in range(4))
        c = logistic(f) * c + logistic(i) * tanh(g)
        return logistic(o) * tanh(c), c

    @staticmethod
    def gru(W, U, v, h):
        r, z = (logistic(W[k] + h @ U["recurrent_kernel"][k]) for k in range(2))
        n = tanh(W[2] + (r * h) @ U["candidate_kernel"][0])
        return (z * h + (1 - z) * n,)

    @staticmethod
    def gru_reset_after(W, U, v, h):
        r, z = (logistic(W[k] + h @ U["recurrent_kernel"][k]) for k in range(2))
        n = tanh(W[2] + r * (h @ U["recurrent_kernel"][2] + v["candidate_bias"]))
        return (z * h + (1 - z) * n,)

    @staticmethod
    def gru_simple(W, U, v, h):
        z, n = (W[k] + h @ U["recurrent_kernel"][k] for k in range(2))
        return (logistic(z) * h + (1 - logistic(z)) * tanh(n),)

    @staticmethod
    def mgu(W, U, v, h):
        f = logistic(W[0] + h @ U["recurrent_kernel"][0])
        n = tanh(W[1] + (f * h) @ U["candidate_kernel"][0])
        return ((1 - f) * h + f * n,)

    @staticmethod
    def sru(W, U, v, h, c):
        f, r = logistic(W[0] + v["state_f"] * c), logistic(W[1] + v["state_r"] * c)
        c = f * c + (1 - f) * W[2]
        return r * c + (1 - r) * W[3], c

    @staticmethod
    def mingru(W, U, v, h):
        z = logistic(W[0])
        return ((1 - z) * h + z * W[1],)

    @staticmethod
    def minlstm(W, U, v, h):
        f, i = logistic(W[0]), logistic(W[1])
        return (f / (f + i) * h + i / (f + i) * W[2],)
