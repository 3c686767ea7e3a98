"""Alembic's folder: env.py and one file per step in versions/. Run by gateway/store/migrate.py."""
