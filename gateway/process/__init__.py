"""The processes of a running Wardgate: the parent, its children, what they say to each other."""
