"""Python's syntax trees: how statements leave, what they bind and read; and small ones to put in."""

import ast

HELPER = "@script"  # what converted code calls: a name that no user can have
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
NAMING = DEFINITIONS | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
# What may fail, or cost: it is evaluated only where Python would.
DEAR = ast.Call | ast.Subscript | ast.FloorDiv | ast.Mod | ast.Pow | ast.MatMult
LEAVING = ast.Return | ast.Break | ast.Continue
LOOPS = ast.While | ast.For


# Statements


def inside(s, rewrite):
    """A statement with its blocks rewritten."""
    if isinstance(s, DEFINITIONS):
        return s
    new = at(s, type(s)(**{field: getattr(s, field) for field in s._fields}))
    for field, x in ast.iter_fields(s):
        if field in ("body", "orelse", "finalbody"):
            setattr(new, field, rewrite(x))
        elif field in ("handlers", "cases"):
            setattr(new, field, [inside(part, rewrite) for part in x])
    return new


def leaving(s, kinds=LEAVING) -> bool:
    """May the statement leave the block it stands in?"""
    if isinstance(s, kinds):
        return True
    if isinstance(s, LOOPS):
        if any(leaving(x, kinds) for x in s.orelse):
            return True
        return any(leaving(x, ast.Return) for x in s.body)
    blocks = []
    inside(s, blocks.extend)
    return any(leaving(x, kinds) for x in blocks)


def always(stmts) -> bool:
    """Does every path through the statements leave?"""
    for s in stmts:
        match s:
            case ast.Return() | ast.Break() | ast.Continue():
                return True
            case ast.If(_, body, orelse) if always(body) and always(orelse):
                return True
            case ast.With(_, body) if always(body):
                return True
            case ast.While(ast.Constant(endless), body) if endless:
                if not any(leaving(x, ast.Break) for x in body):
                    return True
            case ast.Try(body, handlers, orelse, end):
                if always(end) or always(body + orelse) and all(always(h.body) for h in handlers):
                    return True
    return False


# Names


def own_nodes(roots):
    """What is in the trees, but not in another scope there."""
    todo = [*roots]
    while todo:
        yield (n := todo.pop())
        if isinstance(n, COMPREHENSIONS):
            todo += [x for x in ast.walk(n) if isinstance(x, ast.NamedExpr)]
        elif not isinstance(n, DEFINITIONS | ast.Lambda):
            todo += ast.iter_child_nodes(n)


def bound(roots) -> set:
    """The names that are bound, or unbound."""
    names = set()
    for n in own_nodes(roots):
        match n:
            case ast.Name(name, ast.Store() | ast.Del()):
                names.add(name)
            case ast.alias(name, other):
                names.add(other or name.split(".")[0])
            case ast.MatchMapping(rest=name) if name:
                names.add(name)
            case _ if isinstance(n, NAMING) and n.name:
                names.add(n.name)
    return names


def reads(*roots) -> set:
    nodes = [n for root in roots for n in ast.walk(root)]
    loads = {n.id for n in nodes if named(n) and isinstance(n.ctx, ast.Load)}
    return loads | {n.target.id for n in nodes if isinstance(n, ast.AugAssign) and named(n.target)}


def named(node):
    return isinstance(node, ast.Name)


def has_walrus(node):
    return any(isinstance(n, ast.NamedExpr) for n in ast.walk(node))


# Small trees


def load(name):
    return ast.Name(name, ast.Load())


def store(name):
    return ast.Name(name, ast.Store())


def assign(name, value):
    return ast.Assign([store(name)], ast.Constant(value))


def arguments(*names):
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


def thunk(node):
    return at(node, ast.Lambda(arguments(), node))


def function(name, body, *args):
    body = body or [ast.Pass()]
    return ast.FunctionDef(name, arguments(*args), body, [], None, type_params=[])


def call(method, *args):
    return ast.Call(ast.Attribute(load(HELPER), method, ast.Load()), [*args], [])


def python(what):
    return ast.Expr(call("python", ast.Constant(what)))


def ask(node):
    """Mark an `and` or `or` of which only the truth is asked for."""
    if isinstance(node, ast.BoolOp):
        node.asked = True
        for value in node.values:
            ask(value)


def logic(left, right, every, asked):
    """`left and right`, if `every`, else `or`."""
    dear = any(isinstance(n, DEAR) and not is_helper(n) for n in ast.walk(right))
    return call("logic", left, thunk(right), *map(ast.Constant, (every, dear, asked)))


def is_helper(node):
    """A call that was put here."""
    match node:
        case ast.Call(ast.Lambda()) | ast.Call(ast.Attribute(ast.Name("@script"))):
            return True
    return False


def at(old, new):
    """`new`, in the line where `old` begins, unless it has a place."""
    if hasattr(old, "lineno") and not hasattr(new, "lineno"):
        ast.copy_location(new, old)
        if old.lineno != old.end_lineno:
            new.end_lineno, new.end_col_offset = old.lineno, old.col_offset
    return new
