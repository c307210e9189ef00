"""Functions that return a [`Task`] from data of a known form."""
