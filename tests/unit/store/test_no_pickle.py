"""A store is read from wherever it lies, so nothing of it may run: no pickle is ever loaded."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import raylottery


PACKAGE = Path(raylottery.__file__).parent
RUN_CODE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def loads_code(tree: ast.AST) -> list[str]:
    """What in some source could load what runs."""
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").partition(".")[0]]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load" and said.get("weights_only") != "True":
                names = ["pickle"]
            if called in ("np.load", "numpy.load") and "allow_pickle" in said:
                names = ["pickle"]
            if called.endswith((".read_pickle", "yaml.unsafe_load", "yaml.full_load")):
                names = ["pickle"]
        found += [ast.unparse(node) for name in names if name in RUN_CODE]
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "np.load('x', allow_pickle=True)",
        "pd.read_pickle('x')",
    ],
)
def test_it_would_be_seen(code):
    assert loads_code(ast.parse(code))


def test_the_package_loads_no_pickle():
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) > 50
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sources
        if (lines := loads_code(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {}
