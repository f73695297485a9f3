"""SQLite: all SQL lives here."""
