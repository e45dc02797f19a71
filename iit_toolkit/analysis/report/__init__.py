"""From numbers to what people read: report, tables, figures, model card, gate."""
