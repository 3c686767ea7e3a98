"""Config as code: a YAML file read strictly, compared with the store, and carried out."""
