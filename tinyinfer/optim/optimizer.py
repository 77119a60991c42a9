"""Optimizers: what they remember is State, made at once; so is the learning rate."""

import numpy as np

from ..core.check import number
from ..core.tensor import State, Tensor
from ..core.trace import no_grad
from ..errors import ArgumentError, GraphError
from ..nn.module import load_states
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
        group = {**self.defaults, **group, "params": as_list(group["params"])}
        check(group, self.defaults)
        memory = dict(self.memory)
        for p in group["params"]:
            if p in memory:
                raise ArgumentError(f"{p.name or 'a parameter'} is in the optimizer twice")
            zeros, i = np.zeros(p.shape, p.dtype), len(memory)
            memory[p] = {m: State(zeros, name=f"{i}.{m}") for m in self.moments(group)}
        self.memory = memory
        name = f"lr.{len(self.param_groups)}"
        group |= {"initial_lr": group["lr"], "lr": State(np.float32(group["lr"]), name=name)}
        self.param_groups.append(Group(group))

    def moments(self, group) -> tuple[str, ...]:
        """The names of what is remembered of each parameter of a group."""
        return ()

    def begin(self):
        """What is done once in a step, before the parameters."""

    def update(self, p, g, lr, **rest):
        """What p becomes: it may assign to its moments, which are among the rest."""
        raise NotImplementedError

    def zero_grad(self):
        """Forget the gradients: `backward` adds to them."""
        for p in self.memory:
            p.grad = None

    def step(self):
        """Change every parameter that has a gradient. Raises GraphError if none has."""
        if all(p.grad is None for p in self.memory):
            raise GraphError("no parameter has a gradient: call loss.backward() before step()")
        with no_grad():
            self.begin()
            for group in self.param_groups:
                options = {k: group[k] for k in self.defaults}
                for p in group["params"]:
                    if p.grad is not None:
                        p.assign(self.update(p, p.grad, **options, **self.memory[p]))

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
    """The parameters and options of a group. Its learning rate is a State, which graphs follow:
    `group["lr"] = 0.01` assigns to it."""

    def __setitem__(self, name, value):
        if name == "lr":
            self["lr"].assign(value)
        else:
            super().__setitem__(name, value)


def as_list(params):
    several = hasattr(params, "__iter__") and not isinstance(params, Tensor | dict | str)
    params = [*params] if several else []
    if not params or not all(isinstance(p, State | dict) for p in params):
        raise ArgumentError("an optimizer trains a list of parameters: pass model.parameters()")
    return params


LIMITS = dict.fromkeys(("lr", "eps", "weight_decay"), "[0, inf)")
LIMITS |= dict.fromkeys(("momentum", "alpha", "betas"), "[0, 1)")


def check(group, defaults):
    if unknown := group.keys() - defaults.keys() - {"params"}:
        raise ArgumentError(f"no option {', '.join(unknown)}: there are {', '.join(defaults)}")
    for name in LIMITS.keys() & group.keys():
        for value in group[name] if name == "betas" else [group[name]]:
            number(name, value, LIMITS[name])
    if group.get("nesterov") and not group["momentum"]:
        raise ArgumentError("nesterov looks ahead along the momentum: give momentum=0.9, say")


# fmt: off


class SGD(Optimizer):
    """v = momentum v + g;  p = p - lr v;  with nesterov  p = p - lr (g + momentum v)

    weight_decay is added to g, times p. Sutskever et al. 2013.
    """
    def __init__(self, params, lr=1e-3, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def moments(self, group): return ("v",) if group["momentum"] else ()

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
        super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)
        self.t = State(np.float64(0), name="t")  # it goes into beta^t: 64 bits

    def moments(self, group): return "m", "v"

    def states(self): return super().states() | {self.t: "t"}

    def begin(self): self.t.assign(self.t + 1)

    def update(self, p, g, lr, betas, eps, weight_decay, m, v):
        g = g + weight_decay * p if weight_decay else g
        return p - lr * self.direction(g, betas, eps, m, v)

    def direction(self, g, betas, eps, m, v):
        b1, b2 = betas
        m.assign(b1 * m + (1 - b1) * g)
        v.assign(b2 * v + (1 - b2) * g * g)
        m_hat = m / (1 - b1**self.t).astype(g.dtype)
        v_hat = v / (1 - b2**self.t).astype(g.dtype)
        return m_hat / (sqrt(v_hat) + eps)


class AdamW(Adam):
    """As Adam, but the decay goes past the averages:  p = p - lr (m' / (sqrt(v') + eps) + weight_decay p).

    Loshchilov and Hutter 2017, algorithm 2.
    """
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, lr, betas, eps, weight_decay, m, v):
        return p - lr * (self.direction(g, betas, eps, m, v) + weight_decay * p)


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2;  p = p - lr g / (sqrt(s) + eps);  with momentum by way of v.

    weight_decay is added to g, times p. Tieleman and Hinton 2012, lecture 6.5.
    """
    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)

    def moments(self, group): return ("s", "v") if group["momentum"] else ("s",)

    def update(self, p, g, lr, alpha, eps, weight_decay, momentum, s, v=None):
        g = g + weight_decay * p if weight_decay else g
        s.assign(alpha * s + (1 - alpha) * g * g)
        g = g / (sqrt(s) + eps)
        if v is not None:
            v.assign(momentum * v + g)
            g = v
        return p - lr * g
