"""Control flow as calls: what ti.script does to the source of a function, in three rewrites.

`@script` is the helper of graph/script.py. Whenever the function runs, it decides whether to do what
Python does or to write down an op. Names with an @ cannot meet a name of the user.

1. Expressions. What may not be reached is lazy; functions that are called are converted too.

    f(x)                 @script.call(f)(x)
    a and b              @script.logic(a, lambda: b, ...), and so is a or b
    not a                @script.negated(a)
    a if c else b        @script.branch(c, lambda: a, lambda: b)
    a < b < c            (lambda l, r: l < r and r < c)(a, b)
    x.y = a; x[i] = a    @script.own(x).y = a; @script.own(x)[i] = a
    try, del, import     @script.python("try"), in front of it: an op has nothing like it

2. Leaving. Only the end of a block leaves it. `skip` and `go` belong to the loop, `value` and
   `returned` to the function.

    continue             skip = True
    break                go = False; skip = True
    return e             value = e; returned = True; and in a loop: go = False; skip = True
    if c: A; return      if c: A; return
    B                    else: B
    A, which may leave   A
    B                    if not skip: B                     outside of loops: if not returned
    while c: A           go = True; while go and c: skip = False; A
    else: B              if go: B
                         if returned: return value

3. Blocks become functions. Their variables are nonlocal, so they share cells, which the helper reads
   and writes. A lambda tells it which of the variables that a block binds are live: read
   afterwards or, in a loop, by a further turn.

    if c: A else: B      def @then(): A; def @else(): B; @script.branch(c, @then, @else, lambda: (x, y))
    while c: A           def @test(): return c; def @body(): A; @script.repeat(@test, @body, lambda: x)
    for t in e: A        def @body(@item): t = @item; A; @script.each(e, @body, lambda: x, go)

The idea is AutoGraph's: D. Moldovan et al., AutoGraph: Imperative-style coding with graph-based
performance, SysML 2019. Left as they are: generators, coroutines, classes inside functions,
conditions of comprehensions, and expressions that are lazy and contain a `:=`.
"""

import ast
import linecache
from functools import cache
from types import CodeType

from ..errors import GraphError
from .syntax import (
    DEFINITIONS,
    HELPER,
    LEAVING,
    LOOPS,
    always,
    arguments,
    ask,
    assign,
    at,
    bound,
    call,
    function,
    has_walrus,
    inside,
    leaving,
    load,
    logic,
    named,
    own_nodes,
    python,
    reads,
    store,
    thunk,
)  # fmt: skip

VALUE, RETURNED, ITEM = "@value", "@returned", "@item"


@cache
def lowered(code: CodeType, file: str) -> CodeType:
    """The code of a function in a file, made anew from its source, with control flow as calls. Its
    free variables are those of the function, and @script.

    Raises OSError if there is no source, and GraphError if it is not that of the code any more.
    """
    linecache.checkcache(file)
    source = "".join(linecache.getlines(file))
    if not source:
        raise OSError(f"{file} is not there")
    try:
        (fn,) = [n for n in ast.walk(ast.parse(source)) if is_def_of(n, code)]
    except (SyntaxError, ValueError):
        raise GraphError(
            f"script: {file} has changed since it was imported: there is no {code.co_qualname} at "
            f"line {code.co_firstlineno} any more. Import it again"
        ) from None
    fn.decorator_list = []  # what they made of it calls it
    Expressions().function(fn)
    # In a class, for __private names and super(), in a function, for the free variables.
    owner = ast.ClassDef(class_around(code.co_qualname), [], [], [fn], [], type_params=[])
    outer = at(fn, function("@outer", [owner], *code.co_freevars, HELPER))
    tree = ast.fix_missing_locations(ast.Module([outer], []))
    new = compile(tree, file, "exec", dont_inherit=True)
    for name in outer.name, owner.name, fn.name:
        new = next(c for c in new.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return new


def is_def_of(n, code):
    if not isinstance(n, ast.FunctionDef) or n.name != code.co_name:
        return False
    return min([n.lineno, *(d.lineno for d in n.decorator_list)]) == code.co_firstlineno


def class_around(qualname):
    """The innermost: C of "f.<locals>.C.g" and of "C.g.<locals>.h"; else _."""
    parts = qualname.split(".")
    inside = [a for a, b in zip(parts, parts[1:]) if "<locals>" not in (a, b)]
    return inside[-1] if inside else "_"


# 1. Expressions


class Expressions(ast.NodeTransformer):
    """Also functions in the function, and statements that Python alone understands."""

    first = None  # the first parameter of the function, for super()

    def function(self, fn):
        """Lower a definition, in place."""
        a, inner = fn.args, Expressions()
        plain = [*a.posonlyargs, *a.args]
        inner.first = plain[0].arg if plain else None
        params = {x.arg for x in (*plain, a.vararg, *a.kwonlyargs, a.kwarg) if x}
        outer = [n for n in own_nodes(fn.body) if isinstance(n, ast.Global | ast.Nonlocal)]
        later = [n for s in fn.body for n in ast.walk(s) if isinstance(n, DEFINITIONS | ast.Lambda)]
        statements = Statements(params, outer, reads(*later))
        inner.generic_visit(block := ast.Module(fn.body, []))
        fn.body = statements.function(block.body)

    def visit_FunctionDef(self, fn):
        if not any(isinstance(n, ast.Yield | ast.YieldFrom) for n in own_nodes(fn.body)):
            fn.decorator_list = [self.visit(d) for d in fn.decorator_list]
            fn.args = self.visit(fn.args)
            self.function(fn)
        return fn

    def visit_AsyncFunctionDef(self, node):
        return node

    visit_ClassDef = visit_AsyncFunctionDef

    def visit_Call(self, node):
        self.generic_visit(node)
        f = node.func
        if named(f) and f.id == "super" and not node.args and self.first:
            node.args = [load("__class__"), load(self.first)]
        if isinstance(f, ast.Attribute) and node.lineno != f.end_lineno:
            node.lineno, node.col_offset = f.end_lineno, 0  # Python says the line of .name
        node.func = at(node, call("call", f))
        return node

    def visit_BoolOp(self, node):
        self.generic_visit(node)
        if any(map(has_walrus, node.values[1:])):
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
        if has_walrus(node.body) or has_walrus(node.orelse):
            return node
        return at(node, call("branch", node.test, thunk(node.body), thunk(node.orelse)))

    def visit_Compare(self, node):
        if len(node.ops) == 1 or any(map(has_walrus, node.comparators[1:])):
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
        x = node.target
        return [at(node, ast.Expr(call("grown", load(x.id)))), node] if named(x) else node

    def visit_AnnAssign(self, node):
        """Without the annotation: what is nonlocal cannot have one."""
        self.generic_visit(node)
        if not named(node.target):
            return node
        return at(node, ast.Assign([node.target], node.value) if node.value else ast.Pass())

    def visit_Assert(self, node):
        self.generic_visit(node)
        node.test = at(node, call("asserted", node.test))
        return node

    def visit_Raise(self, node):
        self.generic_visit(node)
        node.exc = node.exc and at(node, call("raised", node.exc))
        return node

    def visit_Try(self, node):
        word = type(node).__name__.removesuffix("Star").removesuffix("From").removesuffix("ete")
        return [at(node, python(word.lower())), self.generic_visit(node)]

    visit_TryStar = visit_Import = visit_ImportFrom = visit_Delete = visit_Try


# 2. Leaving, 3. functions


class Statements:
    """Those of one function."""

    def __init__(self, params, outer, captured):
        self.params, self.loops = params, 0
        self.outer = {name for s in outer for name in s.names}
        self.globals = {name for s in outer if isinstance(s, ast.Global) for name in s.names}
        self.always_live = captured | self.outer - self.globals  # functions read them any time

    def function(self, body):
        """The body of the function."""
        body = body if always(body) else [*body, at(body[-1], ast.Return(None))]
        body = [assign(RETURNED, False), *self.block(body, None)]
        cells = sorted(bound(body) - self.outer - self.params)
        nowhere = ast.Assign([store(name) for name in cells], ast.Constant(None))
        # never run: it makes them variables of the function, which the blocks share
        local = ast.If(ast.Constant(False), [nowhere], [])
        lines, _ = self.lower(body, {VALUE})
        return [*self.declared(self.outer), local, *lines, at(body[-1], ast.Return(load(VALUE)))]

    def declared(self, names):
        kinds = (ast.Global, names & self.globals), (ast.Nonlocal, names - self.globals)
        return [kind(sorted(names)) for kind, names in kinds if names]

    # 2.

    def block(self, stmts, loop):
        """The same statements, of which only the last leaves. `loop`: the names of (skip, go)."""
        out, todo = [], stmts
        while todo:
            s, *rest = todo
            if isinstance(s, LEAVING):
                return out + self.left(s, loop)
            if isinstance(s, LOOPS):
                turning, after = self.loop(s)
                out, todo = out + turning, after + rest
                continue
            leaves = leaving(s)
            if isinstance(s, ast.If) and always(s.body):
                s, rest = at(s, ast.If(s.test, s.body, s.orelse + rest)), []
            elif isinstance(s, ast.If) and always(s.orelse):
                s, rest = at(s, ast.If(s.test, s.body + rest, s.orelse)), []
            s = inside(s, lambda block: self.block(block, loop))
            if leaves and isinstance(s, ast.Try | ast.TryStar):
                s.orelse = self.guarded(s.orelse, loop)
            out, todo = [*out, s], rest
            if leaves:
                return out + self.guarded(self.block(rest, loop), loop)
        return out

    def guarded(self, stmts, loop):
        skipped = call("negated", load(loop[0] if loop else RETURNED))
        return [at(stmts[0], ast.If(skipped, stmts, []))] if stmts else []

    def left(self, s, loop):
        new = []
        if isinstance(s, ast.Return):
            if not (named(s.value) and s.value.id == VALUE):
                new.append(ast.Assign([store(VALUE)], s.value or ast.Constant(None)))
            new.append(assign(RETURNED, True))
        if loop and not isinstance(s, ast.Continue):
            new.append(assign(loop[1], False))
        if loop:
            new.append(assign(loop[0], True))
        return [at(s, x) for x in new]

    def loop(self, s):
        """The loop, without ways out; and what comes after it."""
        if isinstance(s, ast.While) and has_walrus(s.test):  # it binds, as the body does
            ended = [*s.orelse, at(s, ast.Break())]
            body = [at(s, ast.If(s.test, s.body, ended))]
            return self.loop(at(s, ast.While(ast.Constant(True), body, [])))
        self.loops += 1
        skip, go = f"@skip{self.loops}", f"@go{self.loops}"
        returns = any(leaving(x, ast.Return) for x in s.body)
        ends = returns or any(leaving(x, ast.Break) for x in s.body)
        body = [assign(skip, False), *self.block(s.body, (skip, go))]
        if isinstance(s, ast.While):
            new = ast.While(logic(load(go), s.test, True, True) if ends else s.test, body, [])
        else:
            body = [ast.Assign([s.target], load(ITEM)), *body]
            body = [ast.If(load(go), body, [])] if ends else body
            new = ast.For(ast.Constant(go if ends else None), s.iter, body, [])
        after = [ast.If(load(go), s.orelse, [])] if ends and s.orelse else s.orelse
        if returns:
            back = ast.Return(load(VALUE))
            after = [*after, back if always([s]) else ast.If(load(RETURNED), [back], [])]
        turning = [assign(go, True), new] if ends else [new]
        return [at(s, x) for x in turning], [at(s, x) for x in after]

    # 3.

    def lower(self, stmts, live):
        """The statements, with functions for blocks; and which names are live where they begin, if
        those in `live` are where they end. The statements stay as they are."""
        out = []
        for s in reversed(stmts):
            new, live = self.statement(s, live)
            out = [at(s, x) for x in new] + out
        return out, live

    def statement(self, s, live):
        match s:
            case ast.If():
                alive = self.alive([*s.body, *s.orelse], live)
                then, a = self.part("@then", s.body, live)
                other, b = self.part("@else", s.orelse, live)
                step = call("branch", s.test, load("@then"), load("@else"), alive)
                return [then, other, ast.Expr(step)], (a | b) - bound([s.test]) | reads(s.test)
            case ast.While():
                live = live | reads(s.test)
                live = live | self.lower(s.body, live)[1]
                test = function("@test", [at(s, ast.Return(s.test))])
                body, _ = self.part("@body", s.body, live)
                step = call("repeat", load("@test"), load("@body"), self.alive(s.body, live))
                return [test, body, ast.Expr(step)], live
            case ast.For():
                live = live | self.lower(s.body, live)[1]
                body, _ = self.part("@body", s.body, live, ITEM)
                step = call("each", s.iter, load("@body"), self.alive(s.body, live), s.target)
                return [body, ast.Expr(step)], live | reads(s.iter)
            case ast.With():
                body, live = self.lower(s.body, live)
                return [ast.With(s.items, body)], live - bound(s.items) | reads(*s.items)
            case ast.Try() | ast.TryStar() | ast.Match():
                live = live | reads(s)
                return [inside(s, lambda block: self.lower(block, live)[0])], live
            case ast.Global() | ast.Nonlocal():
                return [], live
        names = bound([s])
        refused = [python(f"an assignment to {name} from outside") for name in names & self.outer]
        return [*refused, s], live - names | reads(s)

    def part(self, name, stmts, live, *args):
        body, live = self.lower(stmts, live)
        return function(name, [*self.declared(bound(stmts)), *body], *args), live

    def alive(self, stmts, live):
        """Of what the statements bind, what is live."""
        names = sorted(bound(stmts) & (live | self.always_live) - self.globals)
        return ast.Lambda(arguments(), ast.Tuple([load(name) for name in names], ast.Load()))
