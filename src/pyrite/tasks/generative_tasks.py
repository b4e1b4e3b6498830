"""The tasks whose answers are texts, by name: those that come with Pyrite, and those that are registered from outside."""

from importlib import import_module

from pyrite.errors import UserError
from pyrite.tasks import followbench, gsm8k, ifeval, mt_bench
from pyrite.tasks.generative import GenerativeTask

GENERATIVE: dict[str, GenerativeTask] = {
    task.name: task for task in (ifeval.TASK, gsm8k.TASK, followbench.TASK, mt_bench.TASK)
}
"""By the name that `--task NAME=FILE` and a study's probes give: adding a task is one file and one entry."""


def register_generative_task(task: GenerativeTask) -> None:
    """Add a task from outside; `task.plugin` must name the module in which it is registered when that is imported.

    Raises:
        UserError: the name is taken by another task, or no module is named.
    """
    registered = GENERATIVE.get(task.name)
    if registered is not None and registered.plugin != task.plugin:
        raise UserError("A task of that name is there already.", task.name, "choose another name")
    if not task.plugin:
        raise UserError("A task from outside names its module.", task.name, "plugin=__name__")
    GENERATIVE[task.name] = task


def generative_task(name: str, plugin: str = "") -> GenerativeTask:
    """The task of a name; `plugin` is imported where the process does not know it yet."""
    if plugin and name not in GENERATIVE:
        import_module(plugin)
    return GENERATIVE[name]
