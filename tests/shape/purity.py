"""Finds in a syntax tree what a pure room must not do: iterate sets, hash, use floats, await."""

import ast
from collections.abc import Iterator

SET_TYPES = {"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"}
ORDER_BLIND = {"sorted", "len", "set", "frozenset", "sum", "min", "max", "any", "all", "bool"}
"""Calls whose result does not depend on the order of what they are given."""

SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}


def impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) for everything a pure room must not do."""
    yield from _sets(tree)
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "waits (async, await)"
            case ast.Call(func=ast.Name(id="hash")):
                yield node.lineno, "hash() differs between processes"
            case ast.Constant(value=float()):
                yield node.lineno, f"the float {node.value!r}"
            case ast.Name(id="float"):
                yield node.lineno, "the type float"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield node.lineno, "the division `/` makes a float (use `//`)"
            case _:
                pass


def _annotates_set(annotation: ast.expr) -> bool:
    match annotation:
        case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name):
            return name in SET_TYPES
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _annotates_set(left) or _annotates_set(right)
        case _:
            return False


def _name(target: ast.expr) -> str | None:
    match target:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return f".{name}"
        case _:
            return None


class _SetNames(ast.NodeVisitor):
    """Collects the names and attributes that hold sets, as far as the text shows it."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        name = _name(node.target)
        if name and _annotates_set(node.annotation):
            self.names |= {name, f".{name.lstrip('.')}"}
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if node.annotation and _annotates_set(node.annotation):
            self.names.add(node.arg)

    def visit_Assign(self, node: ast.Assign) -> None:
        if _is_set(node.value, self.names):
            self.names |= {name for target in node.targets if (name := _name(target))}
        self.generic_visit(node)


def _is_set(node: ast.expr, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Name() | ast.Attribute():
            return _name(node) in names
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in SET_METHODS:
            return _is_set(value, names)
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return _is_set(left, names) or _is_set(node.right, names)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_set(body, names) or _is_set(orelse, names)
        case _:
            return False


def _scopes(tree: ast.AST) -> Iterator[tuple[ast.AST, set[str]]]:
    """Yield every outermost function, and the rest of the module, with the sets it can see."""
    outer = _SetNames()
    outer.visit(tree)
    attributes = {name for name in outer.names if name.startswith(".")}
    for node in _outermost_functions(tree):
        inner = _SetNames()
        inner.visit(node)
        yield node, inner.names | attributes


def _outermost_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            yield from _outermost_functions(node)


def _sets(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for scope, names in _scopes(tree):
        excused = {
            id(argument)
            for node in ast.walk(scope)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ORDER_BLIND
            for argument in node.args
        }
        for node in ast.walk(scope):
            for iterated in _iterated(node, excused):
                if _is_set(iterated, names):
                    yield iterated.lineno, "iterates over a set (use sorted(...) or a dict)"


def _iterated(node: ast.AST, excused: set[int]) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=iterated):
            yield iterated
        case ast.GeneratorExp() | ast.ListComp() | ast.DictComp() if id(node) not in excused:
            yield from (generator.iter for generator in node.generators)
        case ast.Call(func=ast.Name(id="list" | "tuple" | "iter" | "enumerate" | "next" | "zip")):
            yield from node.args
        case ast.Call(func=ast.Attribute(attr="join" | "extend" | "from_iterable")):
            yield from node.args
        case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[]):
            yield value
        case ast.Starred(value=value) | ast.YieldFrom(value=value):
            yield value
        case _:
            pass
