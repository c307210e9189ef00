"""The only room that knows TRL: settings, ranks and the trainer."""
