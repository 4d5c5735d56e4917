"""Shows saved results: the verdict, tables on a terminal, a page, pictures."""
