"""``python -m tests.plans``: write today's plans beside the goldens."""

from __future__ import annotations

import sys

from tests.plans.cases import copy_command, write_aside

written = write_aside()
message = f"To accept: {copy_command(written)}" if written else "Every plan is as expected."
sys.stdout.write(f"{message}\n")
sys.exit(1 if written else 0)
