"""Imports go one way: each package imports only from its own level and from those below."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent / "gpt_keras"

# From the bottom up. A name is a package or a module; of two that match, the longer one counts.
LEVELS = [
    {"atomic", "backend", "cache", "checks", "config", "file_bytes", "gguf_file", "records"}
    | {"rotary_scaling", "run_files", "texts", "version", "weight_shapes"},
    {"layers", "presets"},
    {
        "chat.answer_spans",
        "chat.environment",
        "chat.masked_encoding",
        "chat.template",
        "corpus",
        "tokenizers",
    },
    {"datasets", "generation"},
    {"training"},
    {"models"},
    {"chat", "compression", "convert", "evaluation", "export", "finetuning", "interpretation"},
    {"callbacks", "plots", "serving"},
    {"cli"},
]

# Imports upwards, inside a function: a model is loaded and exported by what stands above it.
DEFERRED = {("models", "convert"), ("models", "export")}

# Chat templates stand below data sets, conversations above models, in one package for users.
SAME_PACKAGE = {("chat", "chat")}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def level(module):
    matches = [
        (len(name), i)
        for i, names in enumerate(LEVELS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert matches, f"gpt_keras.{module} stands on no level: add it to LEVELS"
    return max(matches)[1]


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(tree):
    """Yield `(target, names, is_deferred)` of each import of gpt_keras that runs."""

    def visit(node, is_deferred):
        if is_type_checking(node):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gpt_keras":
            below = node.module.removeprefix("gpt_keras").removeprefix(".")
            names = [alias.name for alias in node.names]
            if below:
                yield below, names, is_deferred
            else:
                for name in names:
                    yield name, [], is_deferred
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("gpt_keras."):
                    yield alias.name.removeprefix("gpt_keras."), [], is_deferred
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_deferred or is_function)

    yield from visit(tree, False)


def package(module):
    return module.split(".")[0]


def test_imports_go_one_way():
    wrong = []
    for module, tree in modules():
        for target, _, is_deferred in imports(tree):
            pair = package(module), package(target)
            if pair in SAME_PACKAGE or (is_deferred and pair in DEFERRED):
                continue
            if level(target) > level(module):
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_only_two_imports_upward_are_deferred():
    upward = {
        (package(module), package(target))
        for module, tree in modules()
        for target, _, is_deferred in imports(tree)
        if is_deferred and level(target) > level(module)
    }
    assert upward <= DEFERRED | SAME_PACKAGE


def test_no_package_takes_private_names_of_another():
    wrong = [
        f"{module} imports {name} of {target}"
        for module, tree in modules()
        for target, names, _ in imports(tree)
        for name in [*names, target.split(".")[-1]]
        if name.startswith("_") and not name.startswith("__") and package(module) != package(target)
    ]
    assert wrong == []


def test_no_function_hides_a_module():
    hidden = []
    for path in ROOT.rglob("__init__.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                source = (node.module or "").removeprefix("gpt_keras").strip(".").replace(".", "/")
                for name in (alias.name for alias in node.names):
                    is_module = (ROOT / source / f"{name}.py").exists()
                    is_package = (ROOT / source / name / "__init__.py").exists()
                    if (path.parent / f"{name}.py").exists() and not (is_module or is_package):
                        hidden.append(f"{path.parent.name}.{name}")
    assert hidden == []
