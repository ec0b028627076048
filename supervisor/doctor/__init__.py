"""``supervisor doctor``: everything that an installation stands on, looked at."""
