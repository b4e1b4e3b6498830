"""The examples for clusters: their commands are ones that Pyrite has, their files are what the schedulers read."""

import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pyrite.repair.config import RepairOptions
from pyrite.study.config import StudyOptions

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"
FILES = sorted(FOLDER.iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_flag_is_one_of_the_commands(file: Path) -> None:
    command = re.search(r"pyrite (study|repair) .*?(?=\n\S|\n\n|\n +resources|\Z)", file.read_text(), re.DOTALL)
    assert command is not None
    flags = set(re.findall(r"--([a-z-]+)", command[0]))
    assert flags
    options = {"study": StudyOptions, "repair": RepairOptions}[command[1]]
    assert flags <= {name.replace("_", "-") for name in options.model_fields}


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".sh"], ids=lambda file: file.name)
def test_scripts_are_bash(file: Path) -> None:
    subprocess.run(["bash", "-n", str(file)], check=True)


def test_the_parts_of_the_kubernetes_job_are_all_there() -> None:
    job = YAML(typ="safe").load((FOLDER / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["completionMode"] == "Indexed"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert f'/{job["spec"]["completions"]}"' in container["args"][0]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}


def test_the_skypilot_task_gives_each_node_its_part() -> None:
    task = YAML(typ="safe").load((FOLDER / "skypilot.yaml").read_text())
    assert "$((SKYPILOT_NODE_RANK + 1))/$SKYPILOT_NUM_NODES" in task["run"]
