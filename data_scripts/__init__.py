"""One script a public dataset: from its official download to the common layout."""
