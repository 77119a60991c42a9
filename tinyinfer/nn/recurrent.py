"""Recurrent networks: the same cell for every moment of a sequence, with PyTorch's names and options.

The loop is ti.scan: in eager mode a plain one, in a graph one step that holds the cell. What the
cell needs of the inputs is one product for all moments; in the loop remains the product with h.
"""

from .. import ops as F
from ..core.check import number, whole
from ..errors import ArgumentError, ShapeError
from ..graph.control import scan
from . import init
from .layers import expect
from .module import Module, Parameter


class Recurrent(Module):
    """Subclasses have a `cell`: what the input and h say, (batch, gates hidden_size) each, and the
    old state give the new state, of which the first is the output."""

    gates: int
    carries = 1

    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
        bidirectional=False,
    ):  # fmt: skip
        me = type(self).__name__
        self.input_size = whole(f"{me} input_size", input_size, 1)
        self.hidden_size, self.bias = whole(f"{me} hidden_size", hidden_size, 1), bias
        self.num_layers = whole(f"{me} num_layers", num_layers, 1)
        self.dropout = number(f"{me} dropout", dropout, "[0, 1)")
        self.batch_first, self.bidirectional = batch_first, bidirectional
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else len(self._ways) * hidden_size
            for way in self._ways:
                shapes = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                for name, shape in shapes.items():
                    value = init.uniform(shape, hidden_size**-0.5)
                    setattr(self, f"{name}_l{layer}{way}", Parameter(value))

    @property
    def _ways(self):
        return ("", "_reverse") if self.bidirectional else ("",)

    def forward(self, x, initial=None):
        """x (time, batch, input_size), or with `batch_first` (batch, time, input_size), or without
        a batch (time, input_size). The initial state, zeros if not given, is (num_layers * ways,
        batch, hidden_size), of an LSTM a pair of them.

        Returns the output of the last layer at every moment, (time, batch, ways * hidden_size), and
        the last state, of the shape of the initial one. Both ways' outputs stand side by side.
        Raises ShapeError for other shapes.
        """
        fits = x.ndim in (2, 3) and x.shape[-1] == self.input_size and all(x.shape)
        order = "batch, time" if self.batch_first else "time, batch"
        wanted = f"({order}, {self.input_size}), of one moment at least"
        expect(fits, "the input", wanted, x)
        unbatched = x.ndim == 2
        x = x.unsqueeze(1) if unbatched else x.transpose(0, 1) if self.batch_first else x
        starts = self._starts(initial, x, unbatched)
        ends = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for way in self._ways:
                end, y = self._layer(x, [s[len(ends)] for s in starts], f"l{layer}{way}")
                ends.append(end)
                outputs.append(y)
            x = F.concat(outputs, -1)
        ends = [F.stack(parts) for parts in zip(*ends)]
        if unbatched:
            x, ends = x.squeeze(1), [s.squeeze(1) for s in ends]
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, tuple(ends) if self.carries > 1 else ends[0]

    def _starts(self, initial, x, unbatched):
        shape = (self.num_layers * len(self._ways), x.shape[1], self.hidden_size)
        if initial is None:
            return [F.zeros(shape, dtype=self.weight_hh_l0.dtype)] * self.carries
        given = initial if isinstance(initial, tuple | list) else (initial,)
        wanted = (shape[0], shape[2]) if unbatched else shape
        if [s.shape for s in given] != [wanted] * self.carries:
            kind = "a pair (h, c), " if self.carries == 2 else ""
            raise ShapeError(
                f"the initial state is {kind}{' and '.join([str(wanted)] * self.carries)}, not "
                f"{' and '.join(str(s.shape) for s in given)}"
            )
        return [s.reshape(shape) for s in given]

    def _layer(self, x, start, name):
        """One layer, one way: the last state, and the output at every moment."""
        w_ih, w_hh = getattr(self, f"weight_ih_{name}"), getattr(self, f"weight_hh_{name}")
        b_ih, b_hh = (getattr(self, f"bias_{k}_{name}", None) for k in ("ih", "hh"))

        def moment(state, from_x):
            state = self.cell(from_x, F.linear(state[0], w_hh, b_hh), *state)
            return state, state[0]

        return scan(moment, tuple(start), F.linear(x, w_ih, b_ih), name.endswith("_reverse"))


class RNN(Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or with relu in its place (Elman 1990)."""

    gates = 1

    def __init__(
        self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True,
        batch_first=False, dropout=0.0, bidirectional=False,
    ):  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f'RNN: nonlinearity "tanh" or "relu", not {nonlinearity!r}')
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def cell(self, from_x, from_h, h):
        return (getattr(F, self.nonlinearity)(from_x + from_h),)


class LSTM(Recurrent):
    """(i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh, four parts of the same size;

    c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c'). The state is (h, c).
    Hochreiter and Schmidhuber 1997; the forget gate f is of Gers et al. 2000.
    """

    gates, carries = 4, 2

    def cell(self, from_x, from_h, h, c):
        i, f, g, o = F.split(from_x + from_h, self.hidden_size, -1)
        c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
        return F.sigmoid(o) * F.tanh(c), c


class GRU(Recurrent):
    """r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh), two of the three parts of the weights;

    n = tanh(W_in x + b_in + r (W_hn h + b_hn)), the third;  h' = (1 - z) n + z h.
    Cho et al. 2014; r stands behind the product, as in PyTorch and cuDNN.
    """

    gates = 3

    def cell(self, from_x, from_h, h):
        (xr, xz, xn), (hr, hz, hn) = (F.split(s, self.hidden_size, -1) for s in (from_x, from_h))
        r, z = F.sigmoid(xr + hr), F.sigmoid(xz + hz)
        n = F.tanh(xn + r * hn)
        return ((1.0 - z) * n + z * h,)
