"""Fine-tuning and scoring on GLUE, SQuAD v1.1 and CoNLL-2003."""
