"""Where the master keys come from: environment, file, command, HashiCorp Vault, AWS KMS."""
