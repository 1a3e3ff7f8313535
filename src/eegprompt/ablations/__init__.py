"""What is changed in an ablation, and the table of what came out."""
