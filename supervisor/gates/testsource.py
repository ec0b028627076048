"""Reads the source of a test module without running it: which tests it has, and what each of them is made of."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef

# What pytest and unittest call or read around every test of a module or class, though no test names it.
_IMPLICIT: Final = frozenset(
    {"pytestmark", "pytest_plugins", "pytest_generate_tests"}
    | {f"{step}_{scope}" for step in ("setup", "teardown") for scope in ("module", "class", "function", "method")}
    | {"setUp", "tearDown", "setUpClass", "tearDownClass", "setUpModule", "tearDownModule"}
)
_CLAIMS: Final = frozenset({"raises", "warns", "fail", "deprecated_call"})
_SKIPS: Final = frozenset(
    {"skip", "skipif", "xfail", "importorskip", "skipIf", "skipUnless", "skipTest", "SkipTest", "expectedFailure"}
)


class Unreadable(Exception):
    """The file is not Python that can be parsed."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one test is made of: its own source and all that it refers to in the file."""

    fragments: frozenset[str]
    assertions: int
    skips: int


def read(content: bytes) -> dict[str, Source]:
    """The tests of a module by name, ``test_y`` or ``TestX::test_y``. Raises ``Unreadable``."""
    try:
        module = _Scope(ast.parse(content).body)
        return dict(_tests((module,), "", _Parts()))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(str(error)) from error


class _Scope:
    """The statements of a module or a class, by the names that they define or act upon."""

    def __init__(self, body: Iterable[ast.stmt], around: Iterable[ast.AST] = ()) -> None:
        self.body = list(body)
        self.named: defaultdict[str, list[ast.stmt]] = defaultdict(list)
        self.implicit = list(around)  # for a class: its decorators and bases
        for statement in self.body:
            names = set(_named_by(statement))
            for name in names:
                self.named[name].append(statement)
            if names & _IMPLICIT or _always_in_effect(statement):
                self.implicit.append(statement)


def _tests(scopes: tuple[_Scope, ...], prefix: str, known: "_Parts") -> Iterator[tuple[str, Source]]:
    """The tests of the innermost scope and of the test classes in it."""
    for definition in _definitions(scopes[-1].body):
        if isinstance(definition, ast.ClassDef):
            if _is_test_class(definition):
                around: list[ast.AST] = [*definition.decorator_list, *definition.bases, *definition.keywords]
                inner = _Scope(definition.body, around)
                yield from _tests((*scopes, inner), f"{prefix}{definition.name}::", known)
        elif definition.name.startswith("test"):
            yield f"{prefix}{definition.name}", _source(definition, scopes, known)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[_Definition]:
    """The functions and classes of a body, also those under an ``if``, ``try`` or ``with``."""
    for statement in body:
        if isinstance(statement, _Definition):
            yield statement
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            handlers = statement.handlers if isinstance(statement, ast.Try) else []
            blocks = [statement.body, *(handler.body for handler in handlers)]
            blocks += [getattr(statement, name, []) for name in ("orelse", "finalbody")]
            for block in blocks:
                yield from _definitions(block)


def _is_test_class(definition: ast.ClassDef) -> bool:
    return definition.name.startswith("Test") or any(_last_name(base).endswith("TestCase") for base in definition.bases)


def _source(function: _Function, scopes: tuple[_Scope, ...], known: "_Parts") -> Source:
    """Follow the names from the test outwards until nothing new is found."""
    module, *classes = scopes
    todo: list[ast.AST] = [function, *(node for scope in scopes for node in scope.implicit)]
    found: dict[int, _Part] = {}
    while todo:
        node = todo.pop()
        if id(node) in found:
            continue
        part = found[id(node)] = known.of(node)
        todo += [statement for name in part.names for statement in module.named.get(name, ())]
        for scope in classes:
            mentioned = part.names | part.attributes
            todo += [statement for name in mentioned for statement in scope.named.get(name, ())]
    # A statement of the module may skip all of it, whoever refers to it.
    others = [node for node in module.body if not isinstance(node, _Definition) and id(node) not in found]
    return Source(
        fragments=frozenset(part.text for part in found.values()),
        assertions=sum(part.claims for part in found.values()),
        skips=sum(part.skips for part in found.values()) + sum(known.of(node).module_skips for node in others),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """What is to be known of one statement, decorator or base class."""

    text: str
    names: frozenset[str]
    attributes: frozenset[str]
    claims: int
    skips: int
    module_skips: int  # of these, calls that end the import when they stand in the module itself


class _Parts:
    """The parts of a module, each looked at once however many tests refer to it."""

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}

    def of(self, node: ast.AST) -> _Part:
        if id(node) not in self._parts:
            self._parts[id(node)] = _look_at(node)
        return self._parts[id(node)]


def _look_at(part: ast.AST) -> _Part:
    names: set[str] = set()
    attributes: set[str] = set()
    claims = skips = module_skips = 0
    for node in ast.walk(part):
        claims += _is_claim(node)
        skips += _is_skip(node)
        module_skips += _is_skip_call(node)
        match node:
            # A fixture is named by an argument, or by a text in a decorator.
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Constant(value=str(name)):
                names.add(name)
            case ast.Attribute(attr=name):
                attributes.add(name)
    return _Part(ast.dump(part), frozenset(names), frozenset(attributes), claims, skips, module_skips)


def _named_by(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds, or changes something about: ``CASES.append(1)`` counts for ``CASES``."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            for keyword in _decorator_keywords(node):
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            yield _first_name(node)
        case ast.Expr(value=ast.Call() as call):
            yield _first_name(call)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _named_by(child)


def _always_in_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return any(alias.name == "*" for alias in statement.names)
    return isinstance(statement, _Function) and any(
        keyword.arg == "autouse" and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
        for keyword in _decorator_keywords(statement)
    )


def _decorator_keywords(definition: _Definition) -> Iterator[ast.keyword]:
    for decorator in definition.decorator_list:
        if isinstance(decorator, ast.Call):
            yield from decorator.keywords


def _is_claim(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        # A constant or a tuple is true whatever the code does.
        return not (isinstance(node.test, ast.Constant) and node.test.value) and not isinstance(node.test, ast.Tuple)
    return isinstance(node, ast.Call) and (
        _last_name(node.func) in _CLAIMS or _last_name(node.func).startswith("assert")
    )


def _is_skip(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and _last_name(node) in _SKIPS


def _is_skip_call(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and _is_skip(node.func)):
        return False
    return not (isinstance(node.func, ast.Attribute) and _last_name(node.func.value) == "mark")


def _last_name(node: ast.AST) -> str:
    """``c`` of ``a.b.c``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _first_name(node: ast.AST) -> str:
    """``a`` of ``a.b[0].c()``."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return _last_name(node)
