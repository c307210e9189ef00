"""What an update improved, and how the task weights hear of it."""
