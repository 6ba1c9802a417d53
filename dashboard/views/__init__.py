"""One module per page, and the parts a page is made of."""
