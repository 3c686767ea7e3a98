"""One file per step, in the order their numbers say; a released step is never edited."""
