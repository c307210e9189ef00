"""TRL calls environments experimental in a warning, which is an error in tests."""

import os


os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
