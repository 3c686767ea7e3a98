"""`python -m admin.cli` is `wardgate`."""

from admin.cli.main import main

if __name__ == "__main__":
    main()
