"""Pictures of alignments, which terminal, notebook and report share. They need no model."""
