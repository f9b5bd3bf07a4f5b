"""Drawing and scoring: logits filters, the decode loop, the score. It knows ids, never text."""
