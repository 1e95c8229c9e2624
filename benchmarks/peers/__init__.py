"""Other clients at the same work, each in its best simple form; all write the crawler's rows to standard output."""
