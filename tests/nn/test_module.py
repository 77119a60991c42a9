"""Modules: what is found in them, hooks, loading, copies, and what mistakes are told."""

import copy

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn

X = np.random.RandomState(0).standard_normal((5, 4)).astype(np.float32)


class Net(nn.Module):
    """Modules and parameters wherever one might put them."""

    def __init__(self):
        self.first = nn.Linear(4, 4)
        self.blocks = [[nn.Linear(4, 4), nn.BatchNorm1d(4)], (nn.ReLU(),)]
        self.heads = {"a": nn.Linear(4, 2), "b": {"deep": nn.Linear(4, 3)}}
        self.scale = nn.Parameter(np.ones(4))
        self.words = ["not", "a", "module"]
        self.bias = None

    def forward(self, x, *, add=None):
        x = self.first(x) * self.scale.astype("float32")
        for block in self.blocks:
            for layer in block:
                x = layer(x)
        x = x if add is None else x + add
        return self.heads["a"](x), self.heads["b"]["deep"](x)


# What is found


def test_names_go_through_containers():
    net = Net()
    assert [name for name, _ in net.named_children()] == [
        "first", "blocks.0.0", "blocks.0.1", "blocks.1.0", "heads.a", "heads.b.deep",
    ]  # fmt: skip
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "first.weight", "first.bias", "blocks.0.0.weight", "blocks.0.0.bias",
        "blocks.0.1.weight", "blocks.0.1.bias", "heads.a.weight", "heads.a.bias",
        "heads.b.deep.weight", "heads.b.deep.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers()] == [
        "blocks.0.1.running_mean", "blocks.0.1.running_var",
    ]  # fmt: skip
    assert net.named_modules()[0] == ("", net)
    assert net.scale.name == "scale" and net.heads["a"].weight.name == "heads.a.weight"


def test_what_is_shared_is_found_once():
    layer = nn.Linear(4, 4)
    net = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 4))
    net[3].weight = layer.weight
    assert len(net.modules()) == 4 and len(net.children()) == 3
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "3.bias"]
    assert [*net.state_dict()] == ["0.weight", "0.bias", "3.bias"]
    seen = []
    net.apply(seen.append)
    assert len(seen) == 4 and seen[-1] is net


def test_modules_may_know_one_another():
    parent, child = Net(), nn.Linear(4, 4)
    parent.child, child.parent = child, parent
    assert len(child.modules()) == len(parent.modules()) == 8


def test_another_module_may_take_the_place_of_one():
    net = Net()
    old = net.first
    net.first = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh())
    assert "first.0.weight" in net.state_dict() and "first.weight" not in net.state_dict()
    assert old not in net.modules()
    net.first = None
    assert not any(name.startswith("first") for name in net.state_dict())


def test_names_on_states_are_those_seen_from_furthest_out():
    net = nn.Sequential({"body": nn.Sequential(nn.Linear(4, 4))})
    net["body"][0].parameters()
    assert net["body"][0].weight.name == "weight"
    net.parameters()
    assert net["body"].named_parameters()[0][0] == "0.weight"
    assert net["body"][0].weight.name == "body.0.weight"


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
def test_a_container_may_have_attributes(kind):
    class Own(kind):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.extra = nn.Linear(1, 1)

    net = Own() if kind is nn.ModuleList else Own(nn.ReLU())
    assert [*net.state_dict()] == ["extra.weight", "extra.bias"]
    assert len(net) == (kind is nn.Sequential)


def test_a_hook_that_is_a_module_is_no_child():
    net = nn.Linear(4, 4)
    net.register_forward_hook(nn.ReLU())
    assert net.children() == [] and len(net.modules()) == 1


# Calling


def test_keyword_tensors_and_placeholders():
    net = Net().eval()
    a, _ = net(ti.tensor(X), add=ti.tensor(2 * X))
    add = ti.placeholder((5, 4))
    graph = ti.graph(net(ti.tensor(X), add=add)[0], [add])
    np.testing.assert_allclose(graph.run(2 * X), a.numpy(), rtol=1e-6)
    graph = ti.trace(lambda x, add: net(x, add=add), ti.tensor(X), ti.tensor(X))
    np.testing.assert_allclose(graph.run(X, 2 * X)[0], a.numpy(), rtol=1e-6)


def test_without_forward():
    class Empty(nn.Module):
        pass

    with pytest.raises(ti.TinyinferError, match=r"Empty\(\): .*forward\(self, x\)"):
        Empty()(ti.ones(1))


def test_steps_remember_their_modules():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    graph = ti.trace(net, ti.tensor(X))
    inside = [[call.module for call in n.origin.calls] for n in graph.steps]
    assert inside[0] == [net, net[0]] and inside[-1] == [net, net[1]]


# Errors


class Deep(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        return self.body(x)


INNERMOST = (
    "body.2, Linear(4, 2): linear: x is (5, 3); the weight, (2, 4), wants 4 as its last size"
)
CALLS = {
    "eager": lambda net: net(ti.tensor(X)),
    "with a placeholder": lambda net: net(ti.placeholder(X.shape)),
    "traced": lambda net: ti.trace(net, ti.tensor(X)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_names_the_innermost_module_once(call):
    with pytest.raises(ti.ShapeError) as error:
        call(Deep())
    assert str(error.value) == INNERMOST
    assert error.traceback[-1].name == "linear" and error.value.__cause__ is None


def test_a_module_of_many_lines_is_named_by_its_class():
    net = Deep()
    net.forward = lambda x: x.reshape(7)
    with pytest.raises(ti.ShapeError, match=r"^Deep: reshape: "):
        net(ti.tensor(X))


def test_an_error_of_another_module_may_be_handled():
    net = Deep()

    def forward(x):
        try:
            return net.body(x)
        except ti.ShapeError as error:
            raise ti.ArgumentError("too long") from error

    net.forward = forward
    with pytest.raises(ti.ArgumentError, match="^Deep: too long$") as error:
        net(ti.tensor(X))
    assert str(error.value.__cause__) == INNERMOST


@pytest.mark.parametrize("error", [KeyboardInterrupt("x"), ValueError("x"), SystemExit("x")])
def test_errors_of_others_stay_as_they_are(error):
    def forward(x):
        raise error

    net = nn.Identity()
    net.forward = forward
    with pytest.raises(type(error)) as raised:
        net(ti.tensor(X))
    assert raised.value is error and error.args == ("x",)


# Hooks


def test_hooks_see_and_replace():
    net, seen = nn.Linear(4, 3), []
    net.register_forward_pre_hook(lambda m, args: seen.append(args) or args[0] * 0.0)
    net.register_forward_hook(lambda m, args, y: seen.append(args))
    net.register_forward_hook(lambda m, args, y: y + 1.0)
    y = net(ti.tensor(X))
    assert np.array_equal(seen[0][0].numpy(), X) and not seen[1][0].numpy().any()
    np.testing.assert_allclose(y.numpy(), np.tile(net.bias.numpy() + 1, (5, 1)), rtol=1e-6)


def test_each_registration_is_removed_by_itself():
    net, calls = nn.Identity(), []
    hook = lambda *_: calls.append(0)
    first, second = net.register_forward_hook(hook), net.register_forward_hook(hook)
    net(ti.ones(1))
    assert len(calls) == 2
    first.remove()
    first.remove()
    net(ti.ones(1))
    assert len(calls) == 3
    second.remove()
    net(ti.ones(1))
    assert len(calls) == 3


def test_a_hook_is_of_one_module_alone():
    calls = []
    nn.ReLU().register_forward_hook(lambda *_: calls.append(0))
    nn.ReLU()(ti.ones(1))
    assert not calls


# Modes


def test_train_and_eval_reach_everything():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    net.heads["b"]["deep"].train()
    assert net.heads["b"]["deep"].training and not net.training
    assert all(m.training for m in net.train().modules())


def test_in_use_only_while_it_is_open():
    net = Net()
    net.blocks[0][1].eval()
    before = [m.training for m in net.modules()]
    with net.in_use() as used:
        assert used is net and not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == before and not all(before)
    with pytest.raises(KeyboardInterrupt), net.in_use():
        raise KeyboardInterrupt
    assert [m.training for m in net.modules()] == before


def test_freezing():
    net = Net()
    net.first.requires_grad_(False)
    assert len(net.parameters()) == 11 and not net.first.weight.requires_grad
    a, b = net(ti.tensor(X))
    (a.sum() + b.sum()).backward()
    assert net.first.weight.grad is None and net.scale.grad is not None
    net.zero_grad()
    assert net.scale.grad is None
    assert all(p.requires_grad for p in net.requires_grad_().parameters())


def test_double():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Embedding(3, 4)).double()
    assert {s.dtype for s in net.states()} == {np.dtype("float64")}
    y = net[1](net[0](ti.tensor(X).double()))
    assert y.dtype == np.float64
    y.sum().backward()
    assert net[0].weight.grad.dtype == np.float64
    assert {s.dtype for s in net.float().states()} == {np.dtype("float32")}
    assert net[0].weight.grad is None
    with pytest.raises(ti.DTypeError, match="int8"):
        net.astype("int8")


# To disk and back


def test_a_state_dict_is_a_snapshot_without_a_tape():
    net = nn.Linear(4, 3)
    kept = net.state_dict()
    before = net.weight.numpy().copy()
    net.weight.assign(net.weight * 2.0)
    assert np.array_equal(kept["weight"].numpy(), before)
    assert not kept["weight"].requires_grad
    net.load_state_dict(kept)
    assert np.array_equal(net.weight.numpy(), before)
    kept["weight"] = ti.zeros(3, 4)
    assert np.array_equal(net.weight.numpy(), before)


def test_arrays_of_another_precision_are_converted():
    net = nn.Linear(4, 3)
    net.load_state_dict({"weight": np.ones((3, 4)), "bias": ti.ones(3)})
    assert net.weight.dtype == np.float32 and net.weight.numpy().all()


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda d: d.pop("0.bias"), r"missing     0.bias float32\[3\]"),
        (lambda d: d.update(extra=ti.ones(2)), r"unexpected  extra float32\[2\]"),
        (lambda d: d.update({"0.bias": ti.ones(4)}), r"shape       0.bias \(3,\) here, \(4,\)"),
        (
            lambda d: d.update({"0.bias": ti.tensor([1, 2, 3])}),
            "dtype       0.bias float32 here, int64",
        ),
        (lambda d: d.update({"0.biass": d.pop("0.bias")}), r"\(there is 0.biass\)"),
        (lambda d: (d.pop("0.weight"), d.pop("1.weight")), r"0.weight.*\n.*1.weight"),
    ],
    ids=["missing", "unexpected", "shape", "dtype", "renamed", "two"],
)
def test_all_or_nothing(change, said):
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    before = net.state_dict()
    other = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).state_dict()
    change(other)
    with pytest.raises(ti.LoadError, match=said):
        net.load_state_dict(other)
    assert all(np.array_equal(before[k], x) for k, x in net.state_dict().items())


def test_not_strict_takes_what_fits_by_name():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    before = net.state_dict()
    net.load_state_dict({"0.bias": ti.ones(3), "other": ti.ones(1)}, strict=False)
    assert net[0].bias.numpy().all()
    assert np.array_equal(net[1].bias.numpy(), before["1.bias"].numpy())
    with pytest.raises(ti.LoadError, match="shape"):
        net.load_state_dict({"0.bias": ti.ones(9)}, strict=False)


def test_a_path_is_no_state_dict():
    with pytest.raises(ti.LoadError, match=r"not a str: ti.load\(path\)"):
        nn.Linear(1, 1).load_state_dict("model.safetensors")


def test_thousands_of_differences_are_told_on_a_screen():
    net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(500)))
    other = {f"layer{name}": x for name, x in net.state_dict().items()}
    with pytest.raises(ti.LoadError) as raised:
        net.load_state_dict(other)
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 + 2 * 11 and lines[11] == lines[22] == "  ... and 990 more"
    assert lines[1] == "  missing     0.weight float32[1, 1] (there is layer0.weight)"


def test_a_prefix_of_every_name_is_named():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    other = {f"module.{name}": x for name, x in net.state_dict().items()}
    with pytest.raises(
        ti.LoadError, match=r'begins with "module.": load {k.removeprefix\("mod'
    ) as e:
        net.load_state_dict(other)
    assert str(e.value).count("\n") == 1


@pytest.mark.parametrize("value", [{"step": 1}, "x", None, [[1], [2, 3]]])
def test_what_is_no_number_is_not_loaded(value):
    with pytest.raises(ti.LoadError, match="{name: numbers} can be loaded: .*tensor"):
        nn.Linear(1, 1).load_state_dict({"weight": value, "state": 1})


# Copies


def test_a_deep_copy_shares_nothing_but_keeps_what_is_shared():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)).eval()
    net[2].weight = net[0].weight
    net[0].bias.requires_grad = False
    twin = copy.deepcopy(net)
    assert twin[2].weight is twin[0].weight and len(twin.parameters()) == 5
    assert isinstance(twin[0].weight, nn.Parameter) and not twin[0].bias.requires_grad
    assert not twin.training
    twin[0].weight.assign(ti.zeros(4, 4))
    assert net[0].weight.numpy().any()
    assert not {*net.states()} & {*twin.states()}


@pytest.mark.parametrize(
    "container", [nn.ModuleList([nn.ReLU()]), nn.ModuleDict(a=nn.Linear(1, 1))]
)
def test_containers_are_copied_too(container):
    twin = copy.deepcopy(container)
    assert type(twin) is type(container) and repr(twin) == repr(container)
    assert not {*container.modules()} & {*twin.modules()}


# Containers


def test_sequential():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert len(net) == 2 and [*net] == [net[0], net[-1]]
    net.append(nn.Linear(3, 2))
    net[1] = nn.Tanh()
    wanted = ti.tanh(ti.tensor(X) @ net[0].weight.T + net[0].bias)
    head = net[:2]
    assert isinstance(head, nn.Sequential) and head[0] is net[0]
    np.testing.assert_allclose(head(ti.tensor(X)).numpy(), wanted.numpy(), rtol=1e-6)
    assert net(ti.tensor(X)).shape == (5, 2)


def test_sequential_with_names():
    net = nn.Sequential({"fc": nn.Linear(4, 3), "relu": nn.ReLU()})
    assert [*net.state_dict()] == ["fc.weight", "fc.bias"]
    assert net["fc"] is net[0] and net[:1]["fc"] is net[0]
    net["fc"] = nn.Identity()
    assert not net.state_dict()


def test_lists_and_dicts_of_modules():
    layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
    layers.append(nn.ReLU())
    net = nn.Module()
    net.layers, net.named = layers, nn.ModuleDict({"out": nn.Linear(4, 1)})
    assert [*net.state_dict()][::2] == ["layers.0.weight", "layers.1.weight", "named.out.weight"]
    assert len(layers) == 3 and layers[-1] in net.modules() and net.named["out"] in net.modules()
    del layers[0]
    assert "layers.1.weight" not in net.state_dict()


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Sequential(nn.ReLU), lambda: nn.Sequential([nn.ReLU()]), lambda: nn.Sequential(3)],
)
def test_sequential_of_no_modules(make):
    with pytest.raises(ti.ArgumentError, match="Sequential: layer 0 is"):
        make()


# repr


def test_repr_is_the_call():
    layers = [
        "Linear(4, 3)", "Linear(4, 3, bias=False)", "Conv2d(1, 6, 5)", "ReLU()",
        "Conv2d(4, 6, (3, 5), stride=2, padding=(1, 2), groups=2, bias=False)", "MaxPool2d(2)",
        "ConvTranspose2d(1, 6, 5, stride=2, output_padding=1)", "BatchNorm2d(6, momentum=0.2)",
        "Dropout()", "Dropout(p=0.3)", "LayerNorm((4,))", "Embedding(10, 3)", "Flatten()",
        "Softmax(dim=1)", "CrossEntropyLoss(label_smoothing=0.1)", "LeakyReLU()",
    ]  # fmt: skip
    for call in layers:
        assert repr(eval(f"nn.{call}")) == call


def test_repr_of_containers_and_of_a_circle():
    assert repr(nn.ModuleDict()) == "ModuleDict()" and repr(nn.ModuleList()) == "ModuleList()"
    net = nn.Sequential(nn.Linear(1, 1))
    net[0].parent = net
    assert repr(net) == "Sequential(\n  (0): Linear(\n    (parent): ...\n  )\n)"


def test_repr_of_a_tree():
    net = nn.Sequential({"body": nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "end": nn.Flatten()})
    assert (
        repr(net)
        == """\
Sequential(
  (body): Sequential(
    (0): Linear(4, 3)
    (1): ReLU()
  )
  (end): Flatten()
)"""
    )
