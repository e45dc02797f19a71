"""Names of files, and files that may be damaged, hostile or from elsewhere."""
