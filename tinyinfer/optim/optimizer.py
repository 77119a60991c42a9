"""Optimizers: what they remember is State, made at once; so is the learning rate."""

import numpy as np

from ..core.tensor import State, Tensor, array_of
from ..core.trace import no_grad
from ..errors import ArgumentError, LoadError
from ..nn.module import differences
from ..ops import sqrt


class Optimizer:
    """Subclasses name their memories in `moments` and say in `update` what one step does.

    `parameters` are States, or dicts {"params": [...], option: value} for groups that have options
    of their own. The learning rate of a group is a State: `group["lr"].assign(0.01)`.
    """

    moments: tuple[str, ...] = ()

    def __init__(self, parameters, lr, **options):
        parameters = list(parameters)
        if not parameters:
            raise ArgumentError("an optimizer needs parameters, and was given none")
        groups = parameters if isinstance(parameters[0], dict) else [{"params": parameters}]
        self.groups = [{"lr": lr, **options, **group} for group in groups]
        self.memory = {}  # parameter -> {moment: State}
        for i, group in enumerate(self.groups):
            group["params"] = list(group["params"])
            check(group)
            group["lr"] = State(np.float32(group["lr"]), name=f"lr.{i}")
            for p in group["params"]:
                if p in self.memory:
                    raise ArgumentError(f"{p.name or 'a parameter'} is in the optimizer twice")
                self.memory[p] = {m: State(np.zeros(p.shape, p.dtype)) for m in self.moments}

    def update(self, p, g, lr, **rest):
        """What p becomes: it may assign to its moments, which are among the rest."""
        raise NotImplementedError

    def zero_grad(self):
        """Forget the gradients: `backward` adds to them."""
        for p in self.memory:
            p.grad = None

    def step(self):
        """Change every parameter that has a gradient."""
        with no_grad():
            for group in self.groups:
                options = {k: v for k, v in group.items() if k != "params"}
                for p in group["params"]:
                    if p.grad is not None:
                        p.assign(self.update(p, p.grad, **options, **self.memory[p]))

    @property
    def lr(self) -> State:
        return self.groups[0]["lr"]

    def states(self) -> dict[State, str]:
        """Every State it keeps, with its name; parameters go by their number."""
        found = {group["lr"]: f"lr.{i}" for i, group in enumerate(self.groups)}
        for i, memory in enumerate(self.memory.values()):
            found |= {state: f"{i}.{moment}" for moment, state in memory.items()}
        for state, name in found.items():
            state.name = name
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """{name: value now}: learning rates, moments, the count of steps. A snapshot."""
        return {name: Tensor(state.node) for state, name in self.states().items()}

    def load_state_dict(self, state_dict):
        """Take over all values, or, if one does not fit, none: then LoadError has the differences."""
        states = {name: s for s, name in self.states().items()}
        new = {name: array_of(x) for name, x in state_dict.items()}
        if wrong := differences(states, new, strict=True):
            raise LoadError(f"{type(self).__name__}: these values do not fit:\n" + "\n".join(wrong))
        for name, state in states.items():
            state.assign(new[name])


LIMITS = {"lr": (0, np.inf), "momentum": (0, 1), "beta1": (0, 1), "beta2": (0, 1), "alpha": (0, 1)}


def check(group):
    for name, (low, high) in LIMITS.items():
        if name in group and not low <= group[name] <= high:
            raise ArgumentError(f"{name} is {group[name]}, and must be from {low} to {high}")


# fmt: off


class SGD(Optimizer):
    """v = momentum v + g;  p = p - lr v;  with nesterov  p = p - lr (g + momentum v)

    weight_decay is added to g, times p. Sutskever et al. 2013.
    """
    moments = ("v",)

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        self.moments = ("v",) if momentum else ()
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def update(self, p, g, lr, momentum, weight_decay, nesterov, v=None):
        g = g + weight_decay * p if weight_decay else g
        if v is not None:
            v.assign(momentum * v + g)
            g = g + momentum * v if nesterov else v
        return p - lr * g


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr m' / (sqrt(v') + eps),

    with m' = m / (1 - b1^t), v' = v / (1 - b2^t). weight_decay is added to g, times p.
    Kingma and Ba 2014, algorithm 1.
    """
    moments = ("m", "v")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay)
        self.t = State(np.float64(0))  # it goes into beta^t: 64 bits

    def states(self):
        return super().states() | {self.t: "t"}

    def step(self):
        with no_grad():
            self.t.assign(self.t + 1)
        super().step()

    def update(self, p, g, lr, beta1, beta2, eps, weight_decay, m, v):
        g = g + weight_decay * p if weight_decay else g
        return p - lr * self.direction(g, beta1, beta2, eps, m, v)

    def direction(self, g, beta1, beta2, eps, m, v):
        m.assign(beta1 * m + (1 - beta1) * g)
        v.assign(beta2 * v + (1 - beta2) * g * g)
        m_hat = m / (1 - beta1**self.t).astype(g.dtype)
        v_hat = v / (1 - beta2**self.t).astype(g.dtype)
        return m_hat / (sqrt(v_hat) + eps)


class AdamW(Adam):
    """As Adam, but the decay goes past the averages:  p = p - lr (direction + weight_decay p).

    Loshchilov and Hutter 2017, algorithm 2.
    """
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, lr, beta1, beta2, eps, weight_decay, m, v):
        return p - lr * weight_decay * p - lr * self.direction(g, beta1, beta2, eps, m, v)


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2;  p = p - lr g / (sqrt(s) + eps);  with momentum by way of v.

    Tieleman and Hinton 2012, lecture 6.5.
    """
    moments = ("s", "v")

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
        self.moments = ("s", "v") if momentum else ("s",)
        super().__init__(params, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)

    def update(self, p, g, lr, alpha, eps, weight_decay, momentum, s, v=None):
        g = g + weight_decay * p if weight_decay else g
        s.assign(alpha * s + (1 - alpha) * g * g)
        g = g / (sqrt(s) + eps)
        if v is not None:
            v.assign(momentum * v + g)
            g = v
        return p - lr * g
