"""Modules: plain objects. Whatever States and Modules they hold is found by looking."""

import difflib
from contextlib import contextmanager
from inspect import signature
from reprlib import recursive_repr

from ..core.spec import as_dtype, spec_of
from ..core.tensor import State, Tensor, array_of
from ..core.trace import Call, Edits, Origin, birth, implicit_trace, mode
from ..errors import ArgumentError, DTypeError, LoadError, ShapeError, TinyinferError
from ..runtime.compile import Compiled
from .summary import Summary


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
        raise TinyinferError("it cannot be called: give it a method forward(self, x)")

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        Edits.modules = birth()

    def __call__(self, *args, **kwargs):
        outer = mode.origin
        mode.origin = Origin((*outer.calls, Call(self)))
        if mode.trace:
            mode.trace.called[self] = None
        try:
            if mode.trace is None and any(undefined(x) for x in (*args, *kwargs.values())):
                with implicit_trace():  # what is made of states alone belongs to the graph too
                    return self._run(args, kwargs)
            return self._run(args, kwargs)
        finally:
            mode.origin = outer

    def _run(self, args, kwargs):
        for hook in self._pre_hooks:
            new = hook.fn(self, args)
            args = args if new is None else new if isinstance(new, tuple) else (new,)
        try:
            y = self.forward(*args, **kwargs)
        except TinyinferError as error:
            if error.module is None:  # else one inside has said already that it was it
                error.module = self._place()
                error.args = (f"{error.module}: {error}",)
            raise
        for hook in self._hooks:
            new = hook.fn(self, args, y)
            y = y if new is None else new
        return y

    def _place(self) -> str:
        """Which one it is in the model that is being called: fc1, Linear(400, 120)."""
        model, what = mode.origin.calls[0].module, repr(self)
        name = next((name for name, m in model.named_modules() if m is self), "")
        what = type(self).__name__ if "\n" in what else what
        return f"{name}, {what}" if name else what

    # What it holds

    def face(self) -> list:
        """All that its attributes hold, by which one can see whether something was replaced."""
        own = [x for name, x in vars(self).items() if name != "_training"]
        return [*own, *contents(own), *contents(self)]

    def members(self):
        """(name, State or Module) for each that an attribute holds."""
        return found_in(vars(self))

    def named_children(self):
        """(name, module) for the modules directly inside, each once."""
        found = {}
        for name, x in self.members():
            if isinstance(x, Module):
                found.setdefault(x, name)
        return [(name, x) for x, name in found.items()]

    def named_modules(self):
        """(dotted name, module) for this one, whose name is "", and all inside, each once."""
        found = {}

        def visit(name, module):
            if module not in found:
                found[module] = name
                for inner, child in module.named_children():
                    visit(f"{name}.{inner}".lstrip("."), child)

        visit("", self)
        return [(name, module) for module, name in found.items()]

    def states(self) -> dict[State, str]:
        """Every State once, with its dotted name: parameters and buffers."""
        found = {}
        for prefix, module in self.named_modules():
            for name, x in module.members():
                if isinstance(x, State):
                    found.setdefault(x, f"{prefix}.{name}".lstrip("."))
        for state, name in found.items():
            if not (state.name or "").endswith(f".{name}"):  # a name seen from further out stays
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
            if module._training != flag:  # what is compiled looks again at all that was set
                module._training = flag
        return self

    def eval(self):
        return self.train(False)

    @contextmanager
    def in_use(self):
        """While it is open, as after `eval()`; then every module inside is again as it was."""
        before = {module: module._training for module in self.modules()}
        try:
            yield self.eval()
        finally:
            for module, flag in before.items():
                module._training = flag

    def requires_grad_(self, flag=True):
        """Train the parameters, or, with False, freeze them: they stay among `parameters()`."""
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

    def astype(self, dtype):
        """Convert every State of floats, in place. Graphs and optimizers made before do not follow:
        convert first."""
        if (dtype := as_dtype(dtype)).kind != "f":
            raise DTypeError(f"the parameters of a module are floats, and cannot become {dtype}")
        for s in self.states():
            if s.spec.floating:
                s.grad = None
                s.convert(dtype)
        return self

    double = lambda self: self.astype("float64")
    float = lambda self: self.astype("float32")

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
        return {name: state.detach() for state, name in self.states().items()}

    def load_state_dict(self, state_dict, strict=True):
        """Take over values by name: all of them, or, if one does not fit, none.

        Raises LoadError with the differences. Unless `strict`, names that are missing here or there
        are passed over; shapes must fit all the same.
        """
        load_states(self, self.states(), state_dict, strict)

    # For people

    def summary(self, *inputs) -> Summary:
        """What each layer makes of inputs of these shapes, or like these tensors, and what it costs.

        print(model.summary((1, 1, 28, 28))). The model stays as it is, its running statistics too.
        """
        return Summary(self, inputs)

    def extra_repr(self) -> str:
        """The options, for repr: as in the call that made it, without those left as they are."""
        shown = []
        for name, option in signature(type(self)).parameters.items():
            value = getattr(self, name, option.default)
            if isinstance(option.default, bool):
                value = value is not None and value is not False  # bias=True became a Parameter
            if option.default is option.empty and isinstance(value, PLAIN):
                shown.append(repr(value))
            elif isinstance(value, PLAIN) and value != option.default:
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)

    @recursive_repr()
    def __repr__(self):
        children = [(name, x) for name, x in self.members() if isinstance(x, Module)]
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in children]
        inside = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"


PLAIN = int | float | str | tuple


def found_in(container, prefix=""):
    """(dotted name, State or Module) for each in a container, and in the containers in it."""
    inside = container.items() if isinstance(container, dict) else enumerate(container)
    for name, x in inside:
        x = x.fn if isinstance(x, Compiled) else x
        if isinstance(x, State | Module):
            yield f"{prefix}{name}", x
        elif isinstance(x, list | tuple | dict):
            yield from found_in(x, f"{prefix}{name}.")


def contents(x):
    """What a container holds, and the containers in it."""
    if isinstance(x, list | tuple | dict):
        for inner in x.values() if isinstance(x, dict) else x:
            yield inner
            if not isinstance(inner, Module):
                yield from contents(inner)


def undefined(x):
    return isinstance(x, Tensor) and x.node.value is None


class Hook:
    """One registration of a function: the same function may be registered twice."""

    def __init__(self, module, where, fn):
        self.module, self.where, self.fn = module, where, fn
        setattr(module, where, (*getattr(module, where), self))

    def remove(self):
        hooks = getattr(self.module, self.where)
        setattr(self.module, self.where, tuple(h for h in hooks if h is not self))


def load_states(owner, states, values, strict=True):
    """Assign `values` {name: array} to `states` {state: name}: all of them, or none."""
    what = type(owner).__name__
    if not isinstance(values, dict):
        raise LoadError(
            f"{what}: a dict {{name: values}} can be loaded, not a {type(values).__name__}: "
            "ti.load(path) reads one from disk"
        )
    states = {name: s for s, name in states.items()}
    try:
        new = {str(name): array_of(x) for name, x in values.items()}
    except (DTypeError, ShapeError) as error:
        raise LoadError(f"{what}: a dict {{name: numbers}} can be loaded: {error}") from None
    if wrong := differences(states, new, strict):
        raise LoadError(f"{what}: these values do not fit:\n" + "\n".join(wrong))
    for name, state in states.items():
        if name in new:
            state.assign(new[name].astype(state.dtype))


def differences(states, new, strict) -> list[str]:
    """What keeps `new` from being loaded into `states`, a line each; no more than a screen of it."""
    missing, extra = ([n for n in a if n not in b] for a, b in ((states, new), (new, states)))
    both = [(name, state, new[name]) for name, state in states.items() if name in new]
    shapes = [(n, s.shape, x.shape) for n, s, x in both if s.shape != x.shape]
    kinds = [(n, s.dtype, x.dtype) for n, s, x in both if s.spec.floating != (x.dtype.kind == "f")]
    lines = []
    if strict:
        prefix = next(iter(new), "").partition(".")[0] + "."
        if missing and {name.removeprefix(prefix) for name in new} == {*states}:
            return [
                f'  every name begins with "{prefix}": load {{k.removeprefix("{prefix}"): ...}}'
            ]

        def closest(name):
            close = difflib.get_close_matches(name, extra, 1)
            return f" (there is {close[0]})" if close else ""

        lines += few(missing, lambda n: f"  missing     {n} {states[n].spec}{closest(n)}")
        lines += few(extra, lambda n: f"  unexpected  {n} {spec_of(new[n])}")
    lines += few(shapes, lambda x: "  shape       {} {} here, {} there".format(*x))
    lines += few(kinds, lambda x: "  dtype       {} {} here, {} there".format(*x))
    return lines


def few(found, line, most=10) -> list[str]:
    rest = [f"  ... and {len(found) - most} more"] if len(found) > most else []
    return [*map(line, found[:most]), *rest]


# Putting modules together


class Sequential(Module):
    """Modules one after the other. Given a dict, they have its names, else numbers."""

    def __init__(self, *layers):
        named = len(layers) == 1 and isinstance(layers[0], dict)
        self.put(layers[0] if named else {str(i): x for i, x in enumerate(layers)})
        for name, layer in self.layers:
            if isinstance(layer, type) or not callable(layer):
                raise ArgumentError(
                    f"Sequential: layer {name} is {layer!r}, no module: write Sequential(nn.Flatten(), "
                    "nn.Linear(4, 2)), with the brackets; a list as Sequential(*layers)"
                )

    def put(self, layers):
        """{name: layer}. A tuple, which is replaced: so a change of it is seen at once."""
        self.layers = (*layers.items(),)

    def members(self):
        own = {name: x for name, x in vars(self).items() if name != "layers"}
        return found_in(own | dict(self.layers))

    def forward(self, x):
        for _, layer in self.layers:
            x = layer(x)
        return x

    def append(self, layer):
        self[str(len(self))] = layer
        return self

    __len__ = lambda self: len(self.layers)
    __iter__ = lambda self: (layer for _, layer in self.layers)

    def __getitem__(self, key):
        """The layer of that number or name; of a slice, a Sequential of the same layers."""
        if isinstance(key, slice):
            return Sequential(dict(self.layers[key]))
        return dict(self.layers)[key] if isinstance(key, str) else self.layers[key][1]

    def __setitem__(self, key, layer):
        name = key if isinstance(key, str) else self.layers[key][0]
        self.put(dict(self.layers) | {name: layer})


class Collection(Module):
    __hash__, __eq__ = object.__hash__, object.__eq__

    def members(self):
        yield from super().members()
        yield from found_in(self)

    def extra_repr(self):
        return ""


class ModuleList(Collection, list):
    """A list whose modules are found, as they would be in a plain one; PyTorch's name for it."""


class ModuleDict(Collection, dict):
    """A dict whose modules are found, as they would be in a plain one; PyTorch's name for it."""
