"""One published run as a page to look at: its figures, charts of them, and the page that holds both."""
