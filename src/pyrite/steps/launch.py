"""Was this command started by torchrun or accelerate launch? Which process of how many is this, and where do they meet?

The variables are taken out of the environment once they are read: the model libraries would take the command's own
process, which also reads, probes and writes, for a member of a group that it must wait for.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass

from pyrite.errors import UserError

SIZE, RANK, LOCAL_RANK, LOCAL_SIZE = "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
ADDRESS, PORT = "MASTER_ADDR", "MASTER_PORT"
AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"
"""Set by torchrun where it keeps the store at which the processes meet; else the first process keeps it."""
RUN, RESTART = "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"
VERBS = ("repair", "study")
"""The commands that train with several processes."""
EXAMPLE = "torchrun --nproc-per-node 2 -m pyrite repair …"
OTHERS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a layout of several kinds of parallelism",
}
"""What accelerate launch can be set to that is not done here."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One process of a launch: its number among all and on its machine, how many there are of both, and where they meet."""

    rank: int
    local_rank: int
    size: int
    local_size: int
    address: str
    port: int
    agent_store: bool
    name: str
    """Sets this run apart from others that met at the same place."""


_current: Launch | None = None


def current() -> Launch | None:
    """The launch that this process belongs to; None where it was started by itself."""
    return _current


def set_current(launch: Launch | None) -> None:
    """Say which launch this process belongs to."""
    global _current
    _current = launch


def take_launch(environment: MutableMapping[str, str]) -> Launch | None:
    """The launch that these variables tell of; they are removed. None: there is none, or it is of one process.

    Raises:
        UserError: some of the variables are missing or no numbers, or they ask for what Pyrite does not do.
    """
    size = environment.get(SIZE)
    if size is None:
        return None
    numbers = {name: whole_number(environment, name) for name in (SIZE, RANK, LOCAL_RANK, PORT) if size != "1"}
    for variable, name in OTHERS.items():
        if size != "1" and environment.get(variable, "").lower() in ("1", "true"):
            fix = f"start it without: {EXAMPLE}, or accelerate launch --multi_gpu -m pyrite repair …"
            raise UserError(f"Pyrite shards models by FSDP2, and not by {name}.", f"{variable} is set", fix)
    local_size = whole_number(environment, LOCAL_SIZE) if LOCAL_SIZE in environment and size != "1" else None
    address = environment.get(ADDRESS, "")
    agent_store = environment.get(AGENT_STORE, "").lower() == "true"
    name = f"{environment.get(RUN, 'none')}/{environment.get(RESTART, '0')}"
    for variable in [
        *(
            SIZE,
            RANK,
            LOCAL_RANK,
            LOCAL_SIZE,
            ADDRESS,
            PORT,
            "GROUP_RANK",
            "GROUP_WORLD_SIZE",
            "ROLE_RANK",
            "ROLE_NAME",
        ),
        *("ROLE_WORLD_SIZE", "NODE_RANK"),
        *(name for name in environment if name.startswith(("ACCELERATE_", "FSDP_", "TORCHELASTIC_"))),
    ]:
        environment.pop(variable, None)
    if size == "1":
        return None
    if not address:
        raise UserError("The launch does not say where its processes meet.", f"{ADDRESS} is not set", EXAMPLE)
    local = numbers[SIZE] if local_size is None else local_size
    if not (0 <= numbers[RANK] < numbers[SIZE] and 0 <= numbers[LOCAL_RANK] < local <= numbers[SIZE]):
        detail = f"{RANK} {numbers[RANK]} of {SIZE} {numbers[SIZE]}, {LOCAL_RANK} {numbers[LOCAL_RANK]} of {local}"
        raise UserError("The launch's numbers do not go together.", detail, EXAMPLE)
    return Launch(
        numbers[RANK], numbers[LOCAL_RANK], numbers[SIZE], local, address, numbers[PORT], agent_store, name
    )  # fmt: skip


def whole_number(environment: MutableMapping[str, str], name: str) -> int:
    """A variable of a launch as a number.

    Raises:
        UserError: it is not there, or is none.
    """
    text = environment.get(name, "")
    if not text.isdecimal():
        detail = f"{SIZE}={environment[SIZE]}, and {name} is {repr(text) if text else 'not set'}"
        fix = f"{EXAMPLE}; or unset {SIZE} to run one process"
        raise UserError("The environment tells of a launch by halves.", detail, fix)
    return int(text)


def check_verb(arguments: list[str]) -> None:
    """Refuse a command that does not train, where several processes were started for it.

    Raises:
        UserError: naming the command.
    """
    launch = current()
    verb = next((word for word in arguments if not word.startswith("-")), None)
    if launch is None or verb is None or verb in VERBS or "--help" in arguments or "-h" in arguments:
        return
    fix = f"start it once, without torchrun: pyrite {verb} …"
    detail = f"pyrite {verb}, started as {launch.size} processes; those that train so are: {', '.join(VERBS)}"
    raise UserError("This command does not train with several processes.", detail, fix)


def check_processes(processes: int | None) -> int:
    """How many processes train together: as asked, else as many as were launched, else one.

    Raises:
        UserError: another number is asked for than was launched.
    """
    launch = current()
    if launch is None:
        return processes or 1
    if processes not in (None, launch.size):
        detail = f"--processes {processes}, and {SIZE} is {launch.size}"
        raise UserError(
            "Another number of processes was started.", detail, f"leave --processes out, or --processes {launch.size}"
        )
    return launch.size
