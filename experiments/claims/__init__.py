"""Claims of papers: the records that decide them, the files that keep them, and the page that shows them."""
