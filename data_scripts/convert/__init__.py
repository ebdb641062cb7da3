"""What the scripts of public datasets share: from a download to the common layout."""
