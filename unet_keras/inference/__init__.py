"""From images to probabilities, instances and a served model."""
