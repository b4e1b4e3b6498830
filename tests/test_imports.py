"""No module needs itself: what it imports, at its top or inside its functions, never leads back to it."""

from graphlib import TopologicalSorter

import grimp


def test_no_circles() -> None:
    graph = grimp.build_graph("pyrite", exclude_type_checking_imports=True, cache_dir=None)
    packages = {module for module in graph.modules if graph.find_children(module)}
    imports = {
        module: graph.find_modules_directly_imported_by(module) - packages for module in graph.modules - packages
    }
    assert len(imports) > 200
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules
