"""Control flow as function calls: what ti.script does to the source of a function.

Three rewrites of its syntax tree, one after the other. `@script` is the helper of graph/script.py,
which decides at every call whether to do what Python does or to write down an op.

1. Expressions: what may depend on a tensor is asked of the helper, what may not be reached is lazy.

    f(x)                 @script.call(f)(x)                 so f is converted too
    a and b, a or b      @script.logic(a, lambda: b, ...)
    not a                @script.negated(a)
    a if c else b        @script.branch(c, lambda: a, lambda: b)
    a < b < c            (lambda l, r: l < r and r < c)(a, b)
    x.y = a; x[i] = a    @script.own(x).y = a; @script.own(x)[i] = a
    x += a               @script.grown(x); x += a

2. Leaving: only the end of a block leaves it. `skip` and `go` are of the loop, `value` and
   `returned` of the function.

    continue             skip = True
    break                skip = True; go = False
    return e             value = e; returned = True; and in a loop: skip = True; go = False
    if c: A; return      if c: A; return
    B                    else: B
    S, which may leave   S
    B                    if not skip: B                     outside of loops: not returned
    while c: A           go = True; while go and c: skip = False; A
    else: B              if go: B
                         if returned: return value

3. Blocks become functions. Their variables are nonlocal: so they share cells, which the helper
   reads and writes. It is told which of the variables that a block binds are alive afterwards, or,
   in a loop, at its start.

    if c: A else: B      def @then(): A; def @else(): B; @script.branch(c, @then, @else, (x, y))
    while c: A           def @test(): return c; def @body(): A; @script.repeat(@test, @body, (x, y))
    for t in e: A        def @body(@item): t = @item; A; @script.each(e, @body, (x, y))

The idea is AutoGraph's (Moldovan et al., AutoGraph: Imperative-style coding with graph-based
performance, SysML 2019). Names with an @ cannot meet a name of the user. Not converted: generators,
coroutines, classes in functions, conditions in comprehensions, and what `:=` makes lazy.
"""

import ast
import linecache
from functools import cache
from types import CodeType

from ..errors import GraphError

HELPER, VALUE, RETURNED = "@script", "@value", "@returned"
SCOPES = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
LEAVING = ast.Return | ast.Break | ast.Continue
LOOPS = ast.While | ast.For
TRIES = ast.Try | ast.TryStar
# What may fail, or cost: it is not evaluated unless Python would.
DEAR = ast.Call | ast.Subscript | ast.FloorDiv | ast.Mod | ast.Pow | ast.MatMult


@cache
def lowered(code: CodeType, file: str) -> CodeType:
    """The code of a function in a file, from its source once more, with control flow as calls. Its
    free variables are those of the function, and @script.

    Raises OSError if there is no source, and GraphError if it is not that of the code any more.
    """
    linecache.checkcache(file)
    source = "".join(linecache.getlines(file))
    if not source:
        raise OSError(f"{file} is not there")
    defs = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    found = [n for n in defs if n.name == code.co_name and first_line(n) == code.co_firstlineno]
    if not found:
        raise GraphError(
            f"script: {file} has changed since it was imported: there is no {code.co_qualname} at "
            f"line {code.co_firstlineno} any more. Import it again"
        )
    fn = found[0]
    fn.decorator_list = []  # what they made of it calls it
    Expressions().function(fn)
    # a class, for __private names and super(), in a function, for free variables
    owner = ast.ClassDef(class_of(code.co_qualname), [], [], [fn], [], type_params=[])
    outer = function("@outer", [owner], args=(*code.co_freevars, HELPER))
    module = ast.fix_missing_locations(ast.Module([ast.copy_location(outer, fn)], []))
    new = compile(module, file, "exec", dont_inherit=True)
    for name in "@outer", owner.name, fn.name:
        new = next(c for c in new.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return new.replace(co_qualname=code.co_qualname)


def first_line(fn):
    return min([fn.lineno, *(d.lineno for d in fn.decorator_list)])


def class_of(qualname):
    """The innermost class around: C of "f.<locals>.C.g" and of "C.g.<locals>.h"; else _."""
    parts = qualname.split(".")
    inside = [a for a, b in zip(parts, parts[1:]) if "<locals>" not in (a, b)]
    return inside[-1] if inside else "_"


# 1. Expressions


class Expressions(ast.NodeTransformer):
    """Also the statements of which Python alone knows the meaning, and functions in the function."""

    first = None  # the first parameter of the function, for super()

    def function(self, fn):
        """Lower a definition, in place."""
        inner = Expressions()
        a = fn.args
        plain = [*a.posonlyargs, *a.args]
        params = [x.arg for x in (*plain, a.vararg, *a.kwonlyargs, a.kwarg) if x]
        inner.first = plain[0].arg if plain else None
        later = [n for s in fn.body for n in ast.walk(s) if isinstance(n, DEFINITIONS | ast.Lambda)]
        captured = reads(*later)
        outer = [n for n in own_nodes(fn.body) if isinstance(n, ast.Global | ast.Nonlocal)]
        body = [x for s in fn.body for x in as_list(inner.visit(s))]
        fn.body = Statements(params, captured, outer).function(body)

    def visit_FunctionDef(self, fn):
        if any(isinstance(n, ast.Yield | ast.YieldFrom) for n in own_nodes(fn.body)):
            return fn
        fn.decorator_list = [self.visit(d) for d in fn.decorator_list]
        fn.args = self.visit(fn.args)
        self.function(fn)
        return fn

    def visit_AsyncFunctionDef(self, node):
        return node

    visit_ClassDef = visit_AsyncFunctionDef

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            node.args = [load("__class__"), load(self.first)] if self.first else []
        if isinstance(node.func, ast.Attribute) and node.lineno != node.func.end_lineno:
            node.lineno, node.col_offset = node.func.end_lineno, 0  # Python says the line of .name
        node.func = at(node, call("call", node.func))
        return node

    def visit_BoolOp(self, node):
        self.generic_visit(node)
        if any(map(walrus, node.values[1:])):
            return node
        *values, last = node.values
        for value in reversed(values):
            every, asked = isinstance(node.op, ast.And), hasattr(node, "asked")
            last = at(node, logic(value, last, every, asked))
        return last

    def visit_UnaryOp(self, node):
        if not isinstance(node.op, ast.Not):
            return self.generic_visit(node)
        ask(node.operand)
        return at(node, call("negated", self.visit(node.operand)))

    def visit_If(self, node):
        ask(node.test)
        return self.generic_visit(node)

    visit_While = visit_If

    def visit_IfExp(self, node):
        node = self.visit_If(node)
        if walrus(node.body) or walrus(node.orelse):
            return node
        return at(node, call("branch", node.test, thunk(node.body), thunk(node.orelse)))

    def visit_Compare(self, node):
        if len(node.ops) == 1 or any(map(walrus, node.comparators[1:])):
            return self.generic_visit(node)
        first = ast.Compare(load("@l"), node.ops[:1], [load("@r")])
        rest = ast.Compare(load("@r"), node.ops[1:], node.comparators[1:])
        both = at(node, ast.Lambda(arguments("@l", "@r"), ast.BoolOp(ast.And(), [first, rest])))
        sides = [self.visit(x) for x in (node.left, node.comparators[0])]
        return at(node, ast.Call(self.visit(both), sides, []))

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = at(node, call("own", node.value))
        return node

    visit_Subscript = visit_Attribute

    def visit_AugAssign(self, node):
        """x += y changes a list in place."""
        self.generic_visit(node)
        if not named(node.target):
            return node
        return [at(node, ast.Expr(call("grown", load(node.target.id)))), node]

    def visit_AnnAssign(self, node):
        """What is nonlocal cannot be annotated."""
        if not isinstance(node.target, ast.Name):
            return self.generic_visit(node)
        new = ast.Assign([node.target], self.visit(node.value)) if node.value else ast.Pass()
        return at(node, new)

    def visit_Assert(self, node):
        self.generic_visit(node)
        node.test = at(node, call("asserted", node.test))
        return node

    def visit_Raise(self, node):
        self.generic_visit(node)
        if node.exc:
            node.exc = at(node, call("raised", node.exc))
        return node

    def only_python(self, node):
        self.generic_visit(node)
        word = type(node).__name__.removesuffix("Star").removesuffix("From").lower()
        return [at(node, python({"delete": "del"}.get(word, word))), node]

    visit_Try = visit_TryStar = visit_Import = visit_ImportFrom = visit_Delete = only_python


# 2. Leaving, 3. functions


class Statements:
    """Those of one function."""

    def __init__(self, params, captured, outer):
        self.params, self.loops = {*params}, 0
        self.globals = {name for s in outer if isinstance(s, ast.Global) for name in s.names}
        self.outer = {name for s in outer for name in s.names}
        self.always_live = captured | self.outer - self.globals

    def function(self, body):
        """The body of the function."""
        if not always(body):
            body = [*body, at(body[-1], ast.Return(None))]
        body = [assign(RETURNED, False), *self.block(body, None)]
        local = {*bound(body)} - self.outer - self.params
        lines, _ = self.lower(body, {VALUE})
        nowhere = ast.Assign([store(name) for name in sorted(local)], ast.Constant(None))
        declared = [ast.If(ast.Constant(False), [nowhere], [])]  # so that all have a cell
        end = at(body[-1], ast.Return(load(VALUE)))
        return [*self.declarations({*self.outer}), *declared, *lines, end]

    # 2.

    def block(self, stmts, loop):
        """The same, of which only the end leaves; `loop` has the names (skip, go), if we are in one."""
        out, todo = [], [*stmts]
        while todo:
            s, *rest = todo
            if isinstance(s, LEAVING):
                return out + self.left(s, loop)
            if isinstance(s, LOOPS):
                *before, turning, after = self.loop(s)
                out, todo = [*out, *before, turning], [*after, *rest]
                continue
            leaves = leaving(s)
            if leaves and isinstance(s, ast.If):
                if always(s.body):
                    s, rest = at(s, ast.If(s.test, s.body, [*s.orelse, *rest])), []
                elif always(s.orelse):
                    s, rest = at(s, ast.If(s.test, [*s.body, *rest], s.orelse)), []
            s = inside(s, lambda body: self.block(body, loop))
            if not leaves:
                out, todo = [*out, s], rest
                continue
            if isinstance(s, TRIES):
                s.orelse = self.guarded(s.orelse, loop)
            return [*out, s, *self.guarded(self.block(rest, loop), loop)]
        return out

    def guarded(self, stmts, loop):
        skipped = load(loop[0] if loop else RETURNED)
        return [at(stmts[0], ast.If(call("negated", skipped), stmts, []))] if stmts else []

    def left(self, s, loop):
        new = []
        if isinstance(s, ast.Return):
            if not (isinstance(s.value, ast.Name) and s.value.id == VALUE):
                new.append(ast.Assign([store(VALUE)], s.value or ast.Constant(None)))
            new.append(assign(RETURNED, True))
        if loop and not isinstance(s, ast.Continue):
            new.append(assign(loop[1], False))
        return [at(s, x) for x in (*new, *([assign(loop[0], True)] if loop else []))]

    def loop(self, s):
        """What comes before, the loop, and the list of what comes after."""
        self.loops += 1
        skip, go = f"@skip{self.loops}", f"@go{self.loops}"
        ends = any(leaving(x, ast.Break | ast.Return) for x in s.body)
        returns = any(leaving(x, ast.Return) for x in s.body)
        if isinstance(s, ast.While) and walrus(s.test):
            stop = [*s.orelse, at(s, ast.Break())]
            body = [at(s, ast.If(s.test, s.body, stop))]
            return self.loop(at(s, ast.While(ast.Constant(True), body, [])))
        target = [ast.Assign([s.target], load("@item"))] if isinstance(s, ast.For) else []
        body = [*target, assign(skip, False), *self.block(s.body, (skip, go))]
        if isinstance(s, ast.For):
            body = [ast.If(load(go), body, [])] if ends else body
            new = ast.For(ast.Constant(go if ends else None), s.iter, body, [])
        else:
            new = ast.While(logic(load(go), s.test, True, True) if ends else s.test, body, [])
        after = [ast.If(load(go), s.orelse, [])] if ends and s.orelse else s.orelse
        if returns:
            back = ast.Return(load(VALUE))
            after = [*after, back if always([s]) else ast.If(load(RETURNED), [back], [])]
        before = [assign(go, True)] if ends else []
        return [at(s, x) for x in (*before, new)] + [[at(s, x) for x in after]]

    # 3.

    def lower(self, stmts, live):
        """The statements with functions for blocks; and the names whose values are asked for at
        their start, if those in `live` are at their end."""
        out = []
        for s in reversed(stmts):
            new, live = self.statement(s, live)
            out = [at(s, x) for x in new] + out
        return out, live

    def statement(self, s, live):
        if isinstance(s, ast.If):
            names = self.alive([*s.body, *s.orelse], live)
            then, a = self.part("@then", s.body, live)
            other, b = self.part("@else", s.orelse, live)
            step = call("branch", s.test, load("@then"), load("@else"), names)
            return [then, other, ast.Expr(step)], (a | b) - bound([s.test]) | reads(s.test)
        if isinstance(s, LOOPS):
            head = live | (reads(s.test) if isinstance(s, ast.While) else set())
            head |= self.lower(s.body, head)[1]
            names = self.alive(s.body, head)
        if isinstance(s, ast.While):
            test = function("@test", [at(s, ast.Return(s.test))])
            body, _ = self.part("@body", s.body, head)
            return [test, body, ast.Expr(call("repeat", load("@test"), load("@body"), names))], head
        if isinstance(s, ast.For):
            body, _ = self.part("@body", s.body, head, "@item")
            step = call("each", s.iter, load("@body"), names, s.target)
            return [body, ast.Expr(step)], head | reads(s.iter)
        if isinstance(s, ast.With):
            body, live = self.lower(s.body, live)
            return [ast.With(s.items, body)], live - bound(s.items) | reads(*s.items)
        if isinstance(s, ast.Match | TRIES):
            live = live | reads(s)
            return [inside(s, lambda body: self.lower(body, live)[0])], live
        if isinstance(s, ast.Global | ast.Nonlocal):
            return [], live
        names = bound([s])
        outer = [python(f"an assignment to `{n}`, of outside,") for n in sorted(names & self.outer)]
        return [*outer, s], live - names | reads(s)

    def part(self, name, stmts, live, *args):
        body, live = self.lower(stmts, live)
        return function(name, [*self.declarations(bound(stmts)), *body], args), live

    def alive(self, stmts, live):
        """Of what the statements bind, what is asked for."""
        return ast.Constant((*sorted(bound(stmts) & (live | self.always_live) - self.globals),))

    def declarations(self, names):
        kinds = (ast.Global, names & self.globals), (ast.Nonlocal, names - self.globals)
        return [kind(sorted(names)) for kind, names in kinds if names]


def inside(s, rewrite):
    """A statement with its blocks rewritten."""
    if isinstance(s, DEFINITIONS):
        return s
    new = type(s)(**{field: getattr(s, field) for field in s._fields})
    for field, x in ast.iter_fields(s):
        if field in ("body", "orelse", "finalbody"):
            setattr(new, field, rewrite(x))
        elif field in ("handlers", "cases"):
            setattr(new, field, [inside(part, rewrite) for part in x])
    return at(s, new)


def leaving(s, kinds=LEAVING) -> bool:
    """Does a path through the statement leave the block it stands in?"""
    if isinstance(s, kinds):
        return True
    if isinstance(s, LOOPS):
        return any(leaving(x, ast.Return) for x in s.body) or any(
            leaving(x, kinds) for x in s.orelse
        )
    return any(leaving(x, kinds) for x in children(s))


def children(s):
    """The statements in the blocks of a statement."""
    if isinstance(s, DEFINITIONS):
        return []
    parts = (s, *getattr(s, "handlers", ()), *getattr(s, "cases", ()))
    fields = ("body", "orelse", "finalbody")
    return [x for part in parts for field in fields for x in getattr(part, field, ())]


def always(stmts) -> bool:
    """Does every path through the statements leave?"""
    for s in stmts:
        if isinstance(s, LEAVING):
            return True
        if isinstance(s, ast.If) and always(s.body) and always(s.orelse):
            return True
        if isinstance(s, ast.With) and always(s.body):
            return True
        if isinstance(s, ast.While) and isinstance(s.test, ast.Constant) and s.test.value:
            return not any(leaving(x, ast.Break) for x in s.body)
    return False


# Names


def own_nodes(roots):
    """What is in the syntax trees, without what is in functions and classes there."""
    todo = [*roots]
    while todo:
        yield (node := todo.pop())
        if not isinstance(node, DEFINITIONS | ast.Lambda):
            todo += ast.iter_child_nodes(node)


def reads(*roots) -> set:
    nodes = [n for root in roots for n in ast.walk(root)]
    loads = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return loads | {n.target.id for n in nodes if isinstance(n, ast.AugAssign) and named(n.target)}


def bound(roots) -> set:
    """The names that are bound, or unbound, in this scope."""
    names, todo = set(), [*roots]
    while todo:
        match node := todo.pop():
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Lambda():
                pass
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                names |= {n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)}
            case ast.alias():
                names.add(node.asname or node.name.split(".")[0])
            case _:
                if named(node) and not isinstance(node.ctx, ast.Load):
                    names.add(node.id)
                if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
                    names.add(node.name)
                if isinstance(node, ast.MatchMapping):
                    names.add(node.rest)
                todo += ast.iter_child_nodes(node)
    return names - {None}


# Small trees


def named(node):
    return isinstance(node, ast.Name)


def walrus(node):
    return any(isinstance(n, ast.NamedExpr) for n in ast.walk(node))


def load(name):
    return ast.Name(name, ast.Load())


def store(name):
    return ast.Name(name, ast.Store())


def assign(name, value):
    return ast.Assign([store(name)], ast.Constant(value))


def call(method, *args):
    return ast.Call(ast.Attribute(load(HELPER), method, ast.Load()), [*args], [])


def python(what):
    return ast.Expr(call("python", ast.Constant(what)))


def ask(node):
    """Mark the `and` and `or` of which only the truth is asked for."""
    if isinstance(node, ast.BoolOp):
        node.asked = True
        for value in node.values:
            ask(value)


def logic(left, right, every, asked):
    """`left and right`, or `or`. Is the right side to be spared, if the left one decides? Is only
    the truth asked for?"""
    dear = any(isinstance(n, DEAR) and not ours(n) for n in ast.walk(right))
    return call("logic", left, thunk(right), *map(ast.Constant, (every, dear, asked)))


def ours(node):
    """A call that was put here."""
    if not isinstance(node, ast.Call):
        return False
    f = node.func
    return (
        isinstance(f, ast.Lambda)
        or isinstance(f, ast.Attribute)
        and named(f.value)
        and f.value.id == HELPER
    )


def thunk(node):
    return at(node, ast.Lambda(arguments(), node))


def arguments(*names):
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


def function(name, body, args=()):
    return ast.FunctionDef(name, arguments(*args), body or [ast.Pass()], [], None, type_params=[])


def as_list(x):
    return x if isinstance(x, list) else [x]


def at(old, new):
    """`new`, in the line where `old` begins, unless it has a place."""
    if hasattr(old, "lineno") and not hasattr(new, "lineno"):
        ast.copy_location(new, old)
        if old.lineno != old.end_lineno:
            new.end_lineno, new.end_col_offset = old.lineno, old.col_offset
    return new
