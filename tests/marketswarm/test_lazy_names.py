"""A package has the names that it imports under TYPE_CHECKING, each from its module, and no others."""

import ast
from importlib import import_module
from pathlib import Path

import pytest


def find_imported_names(source):
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imports for alias in node.names]


PACKAGES = ("agent", "channels", "detector", "monitor")


@pytest.mark.parametrize("package", [f"marketswarm.{name}" for name in PACKAGES])
def test_every_name_of_a_package_is_there(package):
    module = import_module(package)
    names = find_imported_names(Path(module.__file__).read_text(encoding="utf-8"))
    assert names
    for name in {*names, *getattr(module, "__all__", ())}:
        assert getattr(module, name) is not None
        assert name in vars(module)  # the next use costs nothing


def test_a_name_that_no_module_gives_is_an_attribute_error():
    module = import_module("marketswarm.channels")
    for name in ("nothing", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"'marketswarm.channels' has no attribute '{name}'"):
            getattr(module, name)
