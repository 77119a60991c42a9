"""Optimizers: what they remember is State, made at once; so is the learning rate."""

from functools import cache

import numpy as np

from ..core.check import number
from ..core.tensor import State, Tensor
from ..core.trace import no_grad
from ..errors import ArgumentError, GraphError, ShapeError
from ..nn.module import load_states
from ..nn.utils import wide
from ..ops import sqrt


class Optimizer:
    """Subclasses say what they remember of a parameter, `moments`, and what one step does, `update`.

    `params` are States, or dicts {"params": [...], option: value} for groups that have options of
    their own; both are found in `param_groups`. Raises ArgumentError for options out of range.
    """

    def __init__(self, params, **defaults):
        self.defaults, self.param_groups = defaults, []
        self.memory = {}  # parameter -> {moment: State}
        params = as_list(params)
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group):
        """Train {"params": [...], option: value} too, say of layers that were frozen before."""
        group = {**self.defaults, **group, "params": as_list(group.get("params"))}
        check(group, self.defaults)
        memory = dict(self.memory)
        for p in group["params"]:
            if p in memory:
                raise ArgumentError(f"{p.name or 'a parameter'} is in the optimizer twice")
            i, first = len(memory), self.moments(group, wide(np.zeros(p.shape, p.dtype)))
            memory[p] = {name: State(x, name=f"{i}.{name}") for name, x in first.items()}
        self.memory = memory
        name = f"lr.{len(self.param_groups)}"
        group |= {"initial_lr": group["lr"], "lr": State(np.float64(group["lr"]), name=name)}
        self.param_groups.append(Group(group))

    def moments(self, group, zeros) -> dict:
        """What is remembered of each parameter of a group, by name, as it is at first: `zeros`
        has the parameter's shape."""
        return {}

    def update(self, p, g, lr, **rest):
        """What p becomes: it may assign to its moments, which are among the rest. All have p's
        dtype, or single precision where that is half."""
        raise NotImplementedError

    def zero_grad(self):
        """Forget the gradients: `backward` adds to them."""
        for p in self.memory:
            p.grad = None

    def step(self):
        """Change every parameter that has a gradient.

        Raises GraphError if none has, and ShapeError if one is not like its parameter; then nothing
        has changed.
        """
        gradients = {p: p.grad for p in self.memory if p.grad is not None}
        if not gradients:
            raise GraphError("no parameter has a gradient: call loss.backward() before step()")
        for p, g in gradients.items():
            if not isinstance(g, Tensor) or g.spec != p.spec:
                met = g.spec if isinstance(g, Tensor) else repr(g)
                raise ShapeError(
                    f"{p.name or 'a parameter'}: the gradient of a {p.spec} is one, not {met}"
                )
        with no_grad():
            for group in self.param_groups:
                options, rate = {k: group[k] for k in self.defaults}, cache(group["lr"].astype)
                for p in [p for p in group["params"] if p in gradients]:
                    x, g = wide(p), wide(gradients[p])
                    options["lr"] = rate(x.dtype)
                    p.assign(self.update(x, g, **options, **self.memory[p]).astype(p.dtype))

    @property
    def lr(self) -> State:
        """The learning rate of the first group."""
        return self.param_groups[0]["lr"]

    def states(self) -> dict[State, str]:
        """Every State it keeps, with its name; parameters go by their number."""
        memories = [state for memory in self.memory.values() for state in memory.values()]
        return {s: s.name for s in (*(group["lr"] for group in self.param_groups), *memories)}

    def state_dict(self) -> dict[str, Tensor]:
        """{name: value now}: learning rates, moments, the count of steps. A snapshot."""
        return {name: state.detach() for state, name in self.states().items()}

    def load_state_dict(self, state_dict):
        """Take over all values, or, if one does not fit, none: then LoadError has the differences."""
        load_states(self, self.states(), state_dict)


class Group(dict):
    """The parameters and options of a group. Its learning rate is a State, float64 so that 0.1 is
    0.1, and graphs follow it: `group["lr"] = 0.01` assigns to it."""

    def __setitem__(self, name, value):
        if name == "lr" and "lr" in self:  # else it is a copy that is being filled
            self["lr"].assign(value)
        else:
            super().__setitem__(name, value)


def as_list(params):
    several = hasattr(params, "__iter__") and not isinstance(params, Tensor | dict | str)
    params = [*params] if several else []
    if not params or not all(isinstance(p, State | dict) for p in params):
        raise ArgumentError("an optimizer trains a list of parameters: pass model.parameters()")
    return params


LIMITS = {"lr": "[0, 3e38]"}  # what single precision has
LIMITS |= dict.fromkeys(("eps", "weight_decay"), "[0, inf)")
LIMITS |= dict.fromkeys(("momentum", "alpha", "betas"), "[0, 1)")


def check(group, defaults):
    if unknown := group.keys() - defaults.keys() - {"params"}:
        raise ArgumentError(f"no option {', '.join(unknown)}: there are {', '.join(defaults)}")
    for name in LIMITS.keys() & group.keys():
        value = group[name]
        if name == "betas" and not (isinstance(value, tuple | list) and len(value) == 2):
            raise ArgumentError(f"betas: two numbers, such as (0.9, 0.999), not {value!r}")
        for x in value if name == "betas" else [value]:
            number(name, x, LIMITS[name])
    if group.get("nesterov") and not group["momentum"]:
        raise ArgumentError("nesterov looks ahead along the momentum: give momentum=0.9, say")


# fmt: off


class SGD(Optimizer):
    """v = momentum v + g;  p = p - lr v;  with nesterov  p = p - lr (g + momentum v)

    weight_decay is added to g, times p. Sutskever et al. 2013.
    """
    def __init__(self, params, lr=1e-3, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def moments(self, group, zeros): return {"v": zeros} if group["momentum"] else {}

    def update(self, p, g, lr, momentum, weight_decay, nesterov, v=None):
        g = g + weight_decay * p if weight_decay else g
        if v is not None:
            v.assign(momentum * v + g)
            g = g + momentum * v if nesterov else v
        return p - lr * g


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr m' / (sqrt(v') + eps),

    with m' = m / (1 - b1^t), v' = v / (1 - b2^t) in step t. weight_decay is added to g, times p.
    Kingma and Ba 2014, algorithm 1.
    """
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    # Each parameter counts its own steps, for it may join later; in 64 bits, for it goes into b^t.
    def moments(self, group, zeros): return {"m": zeros, "v": zeros, "t": np.float64(0)}

    def update(self, p, g, lr, betas, eps, weight_decay, **moments):
        g = g + weight_decay * p if weight_decay else g
        return p - lr * self.direction(g, betas, eps, **moments)

    def direction(self, g, betas, eps, m, v, t):
        b1, b2 = betas
        t.assign(t + 1)
        m.assign(b1 * m + (1 - b1) * g)
        v.assign(b2 * v + (1 - b2) * g * g)
        m_hat = m / (1 - b1**t).astype(g.dtype)
        v_hat = v / (1 - b2**t).astype(g.dtype)
        return m_hat / (sqrt(v_hat) + eps)


class AdamW(Adam):
    """As Adam, but the decay goes past the averages:  p = p - lr (m' / (sqrt(v') + eps) + weight_decay p).

    Loshchilov and Hutter 2017, algorithm 2.
    """
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, lr, betas, eps, weight_decay, **moments):
        return p - lr * (self.direction(g, betas, eps, **moments) + weight_decay * p)


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2;  p = p - lr g / (sqrt(s) + eps);  with momentum by way of v.

    weight_decay is added to g, times p. Tieleman and Hinton 2012, lecture 6.5.
    """
    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)

    def moments(self, group, zeros): return {"s": zeros} | ({"v": zeros} if group["momentum"] else {})

    def update(self, p, g, lr, alpha, eps, weight_decay, momentum, s, v=None):
        g = g + weight_decay * p if weight_decay else g
        s.assign(alpha * s + (1 - alpha) * g * g)
        g = g / (sqrt(s) + eps)
        if v is not None:
            v.assign(momentum * v + g)
            g = v
        return p - lr * g
