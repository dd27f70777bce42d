"""What recorded runs say: intervals and tests, tables, charts, pictures of filters."""
