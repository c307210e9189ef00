"""How many cases each property gets: 10,000 and more in all with `make fuzz`, 540 in the default run."""

from hypothesis import settings


CASES = settings(deadline=None, max_examples=1250 if settings.get_current_profile_name() == "fuzz" else 60)
