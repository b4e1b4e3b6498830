"""The only place that knows a model library: load, score, generate."""

import logging

# Where a CPU has bf16, importing peft makes bitsandbytes warn of a kernel that nothing here uses.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
