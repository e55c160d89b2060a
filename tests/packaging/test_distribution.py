"""What the package declares is what it uses."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted((ROOT / "le_callback").rglob("*.py"))


def names(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def falls_back(node):
    """Whether a try statement goes on without what it imports."""
    caught = {
        name.id
        for handler in node.handlers
        for name in ast.walk(handler.type or ast.Name("Exception"))
        if isinstance(name, ast.Name)
    }
    return bool(caught & {"ImportError", "ModuleNotFoundError", "Exception"})


def imported(tree):
    """Top-level modules that some module imports, and those of them that it can do without."""
    optional_nodes = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and falls_back(node)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found, optional = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module]
        else:
            continue
        (optional if node in optional_nodes else found).update(module.split(".")[0] for module in modules)
    return found, optional


def distributions(modules):
    ours = {"le_callback", *sys.stdlib_module_names}
    provided = packages_distributions()
    return {module: {canonicalize_name(d) for d in provided.get(module, [module])} for module in modules - ours}


def used():
    both = [imported(ast.parse(path.read_text())) for path in SOURCES]
    return tuple(distributions(set().union(*modules)) for modules in zip(*both, strict=True))


def test_imports_are_found_where_they_stand():
    tree = ast.parse(
        "import a.b\nfrom c.d import e\nfrom . import f\n"
        "def g():\n    import h\n"
        "try:\n    import i\nexcept ImportError:\n    import j\n"
        "try:\n    import k\nexcept ValueError:\n    pass\n"
    )
    assert imported(tree) == ({"a", "c", "h", "j", "k"}, {"i"})


def test_every_import_is_declared():
    required, _ = used()
    declared = names(DECLARED["project"]["dependencies"])
    missing = {module: found for module, found in required.items() if not found & declared}
    assert not missing


def test_every_dependency_is_imported():
    required, _ = used()
    assert names(DECLARED["project"]["dependencies"]) <= set().union(*required.values())


def test_optional_imports_are_extras_or_the_other_name_of_lightning():
    _, optional = used()
    extras = DECLARED["project"]["optional-dependencies"]
    offered = names(text for extra, texts in extras.items() if extra != "dev" for text in texts)
    assert {module for module, found in optional.items() if not found & offered} <= {"pytorch_lightning"}


def package_page():
    """The readme with the substitutions of the build, by a reading of the configuration of our own."""
    text = (ROOT / "README.md").read_text()
    for rule in DECLARED["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def links(text):
    return re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", text)


def test_links_of_the_package_page_are_absolute():
    page = links(package_page())
    assert len(page) == len(links((ROOT / "README.md").read_text())) > 0
    home = DECLARED["project"]["urls"]["Homepage"]
    raw = home.replace("https://github.com", "https://raw.githubusercontent.com") + "/main/"
    for image, target in page:
        assert target.startswith(("https://", "#")), target
        for prefix, is_image in ((raw, True), (home + "/blob/main/", False)):
            if target.startswith(prefix):
                assert bool(image) is is_image, target
                assert (ROOT / target.removeprefix(prefix).split("#")[0]).exists(), target


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_supported_versions_are_told(version):
    assert f"Programming Language :: Python :: {version}" in DECLARED["project"]["classifiers"]
