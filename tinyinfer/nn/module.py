"""Modules: plain objects. Whatever States and Modules they hold is found by looking."""

import difflib
from weakref import ref

from ..core.tensor import State, Tensor, array_of
from ..core.trace import Origin, drawing, mode
from ..errors import LoadError


class Parameter(State):
    """A State that is trained: float32, unless the data is of another float."""

    __slots__ = ()

    def __init__(self, data, requires_grad=True, name=None):
        super().__init__(data, requires_grad, name)


class Module:
    """A function with States. A subclass makes them in `__init__` and says in `forward` what it
    computes; whatever it keeps in its attributes, or in lists, tuples and dicts there, is found."""

    _training = True
    _hooks = _pre_hooks = ()

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args, **kwargs):
        outer = mode.origin
        mode.origin = Origin((*outer.modules, ref(self)))
        try:
            if mode.trace is None and any(undefined(x) for x in (*args, *kwargs.values())):
                with drawing():  # what is made of states alone belongs to the graph too
                    return self._run(args, kwargs)
            return self._run(args, kwargs)
        finally:
            mode.origin = outer

    def _run(self, args, kwargs):
        for hook in self._pre_hooks:
            args = as_args(hook(self, args), args)
        y = self.forward(*args, **kwargs)
        for hook in self._hooks:
            new = hook(self, args, y)
            y = y if new is None else new
        return y

    # What it holds

    def members(self):
        """(name, State or Module) for each that an attribute holds."""
        for name, value in vars(self).items():
            if isinstance(value, State | Module):
                yield name, value
            elif isinstance(value, list | tuple | dict):
                inside = value.items() if isinstance(value, dict) else enumerate(value)
                yield from ((f"{name}.{k}", x) for k, x in inside if isinstance(x, State | Module))

    def named_children(self):
        """(name, module) for the modules directly inside."""
        return ((name, x) for name, x in self.members() if isinstance(x, Module))

    def named_modules(self, prefix=""):
        """(dotted name, module) for this one, whose name is "", and all inside, each once."""
        found = {self: prefix}
        for name, child in self.named_children():
            for inner_name, inner in child.named_modules(f"{prefix}.{name}".lstrip(".")):
                found.setdefault(inner, inner_name)
        return [(name, module) for module, name in found.items()]

    def states(self) -> dict[State, str]:
        """Every State once, with its dotted name: parameters and buffers."""
        found = {}
        for prefix, module in self.named_modules():
            for name, x in module.members():
                if isinstance(x, State):
                    found.setdefault(x, f"{prefix}.{name}".lstrip("."))
        for state, name in found.items():
            state.name = name
        return found

    def named_parameters(self):
        return [(name, s) for s, name in self.states().items() if isinstance(s, Parameter)]

    def named_buffers(self):
        """The States that are not trained, such as running means."""
        return [(name, s) for s, name in self.states().items() if not isinstance(s, Parameter)]

    children = lambda self: [child for _, child in self.named_children()]
    modules = lambda self: [module for _, module in self.named_modules()]
    parameters = lambda self: [p for _, p in self.named_parameters()]
    buffers = lambda self: [b for _, b in self.named_buffers()]

    # How it behaves

    @property
    def training(self) -> bool:
        if mode.trace:
            mode.trace.guards[self] = self._training  # a compiled function checks that it holds
        return self._training

    def train(self, flag=True):
        """Behave as in training (dropout, batch statistics), or as in use; here and inside."""
        for module in self.modules():
            module._training = flag
        return self

    def eval(self):
        return self.train(False)

    def requires_grad_(self, flag=True):
        for p in self.parameters():
            p.requires_grad = flag
        return self

    def zero_grad(self):
        for p in self.parameters():
            p.grad = None

    def apply(self, fn):
        """fn(module) for all inside, then for this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def register_forward_hook(self, hook):
        """Call hook(module, args, output) after forward; what it returns, if anything, replaces the
        output. Returns a handle with `.remove()`."""
        return Hook(self, "_hooks", hook)

    def register_forward_pre_hook(self, hook):
        """Call hook(module, args) before forward; what it returns, if anything, replaces args."""
        return Hook(self, "_pre_hooks", hook)

    # To disk and back

    def state_dict(self) -> dict[str, Tensor]:
        """{dotted name: value now}. A snapshot: it stays as it is when training goes on."""
        return {name: Tensor(state.node) for state, name in self.states().items()}

    def load_state_dict(self, state_dict, strict=True):
        """Take over values by name: all of them, or, if one does not fit, none.

        Raises LoadError with the differences. Unless `strict`, names that are missing here or there
        are passed over; shapes must fit all the same.
        """
        states = {name: s for s, name in self.states().items()}
        new = {name: array_of(x) for name, x in state_dict.items()}
        if wrong := differences(states, new, strict):
            raise LoadError(f"{type(self).__name__}: these values do not fit:\n" + "\n".join(wrong))
        for name in states.keys() & new.keys():
            states[name].assign(new[name].astype(states[name].dtype))

    def extra_repr(self) -> str:
        """The options, for repr."""
        values = {k: v for k, v in vars(self).items() if isinstance(v, int | float | str | tuple)}
        return ", ".join(f"{k}={v}" for k, v in values.items() if not k.startswith("_"))

    def __repr__(self):
        lines = [
            f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()
        ]
        inside = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"


class Hook:
    def __init__(self, module, where, fn):
        self.module, self.where, self.fn = module, where, fn
        setattr(module, where, (*getattr(module, where), fn))

    def remove(self):
        hooks = getattr(self.module, self.where)
        setattr(self.module, self.where, tuple(h for h in hooks if h is not self.fn))


def undefined(x):
    return isinstance(x, Tensor) and x.node.value is None


def as_args(new, args):
    return args if new is None else new if isinstance(new, tuple) else (new,)


def differences(states, new, strict) -> list[str]:
    """What keeps `new` from being loaded into `states`, a line each."""
    missing, extra = ([n for n in a if n not in b] for a, b in ((states, new), (new, states)))
    lines = []
    if strict:
        for name in missing:
            close = difflib.get_close_matches(name, extra, 1)
            hint = f" (the file has {close[0]})" if close else ""
            lines.append(f"  missing     {name} {states[name].spec}{hint}")
        lines += [f"  unexpected  {name} {new[name].shape}" for name in extra]
    for name in states.keys() & new.keys():
        if states[name].shape != new[name].shape:
            lines.append(f"  shape       {name} {states[name].shape} here, {new[name].shape} there")
    return lines


class Sequential(Module):
    """Modules one after the other. Given a dict, they have its names, else numbers."""

    def __init__(self, *layers):
        named = isinstance(layers[0], dict) if len(layers) == 1 else False
        self.layers = dict(layers[0]) if named else {str(i): x for i, x in enumerate(layers)}

    def members(self):
        return self.layers.items()

    def forward(self, x):
        for layer in self.layers.values():
            x = layer(x)
        return x

    __len__ = lambda self: len(self.layers)
    __iter__ = lambda self: iter(self.layers.values())
    __getitem__ = lambda self, i: [*self.layers.values()][i]


class ModuleList(Module):
    """A list whose modules are found, as they would be in a plain one; PyTorch's name for it."""

    def __init__(self, modules=()):
        self.list = list(modules)

    def members(self):
        return ((str(i), x) for i, x in enumerate(self.list))

    def append(self, module):
        self.list.append(module)
        return self

    __len__ = lambda self: len(self.list)
    __iter__ = lambda self: iter(self.list)
    __getitem__ = lambda self, i: self.list[i]
