"""Whatever comes in: no traceback, and every row accounted for. `python tests/io/test_io_fuzz.py --count N --seed S` runs more."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.__main__ import main, run


def test_no_file_breaks_a_reader() -> None:
    outcomes = run(1500, 1, ("files",))
    assert outcomes["file read"] > 200
    assert outcomes["file refused"] > 200


def test_no_file_of_settings_breaks_its_loader() -> None:
    outcomes = run(60, 1, ("specs",))
    assert {"study refused", "study read"} <= set(outcomes)


def test_no_template_and_no_chat_breaks_the_rendering() -> None:
    outcomes = run(200, 1, ("chats",))
    assert outcomes["chat rendered"] > 20
    assert outcomes["chat refused"] > 20


def test_no_run_folder_breaks_the_report() -> None:
    outcomes = run(40, 1, ("reports",))
    assert outcomes["report written"] > 2
    assert outcomes["report refused"] > 2


if __name__ == "__main__":
    main()
