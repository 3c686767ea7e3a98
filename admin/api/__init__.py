"""The management surfaces: each file turns one wire shape into desk calls and back."""
