"""One generation batch: what is drawn, generated, kept and trained."""
