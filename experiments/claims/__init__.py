"""Claims of papers: records that decide them, files that keep them, and the page that shows them."""
